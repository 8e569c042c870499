// Classifies the camera's images with a .tflite file that tinyvit-export wrote. The class labels
// and the settings of the preprocessing come from the file.
package com.example.tinyvit

import android.Manifest
import android.content.Context
import android.graphics.Bitmap
import android.graphics.Matrix
import android.os.Bundle
import android.os.SystemClock
import android.widget.FrameLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.view.LifecycleCameraController
import androidx.camera.view.PreviewView
import org.json.JSONObject
import org.tensorflow.lite.Interpreter
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel
import java.util.concurrent.Executors
import kotlin.math.exp
import kotlin.math.min

/** The model in src/main/assets. It must not be compressed, because it is mapped into memory. */
private const val MODEL = "model.tflite"

private const val REMEDY = "make it with tinyvit-export --target litert --preprocess normalize"

/** One class that an image may show, with its probability from 0 to 1. */
data class Prediction(val label: String, val probability: Float)

/** Classifies images with [MODEL]. */
class Classifier(context: Context) : AutoCloseable {
    private val model = mapAsset(context, MODEL)
    private val manifest = JSONObject(readArchiveEntry(model, "tinyvit.json"))
    private val preprocess = manifest.getJSONObject("preprocess")
    private val size = preprocess.getInt("size")
    private val labels = manifest.getJSONObject("labels").getJSONArray("names")
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(4))

    /** The network's input: uint8 RGB in the layout (1, size, size, 3). */
    private val input = ByteBuffer.allocateDirect(size * size * 3).order(ByteOrder.nativeOrder())
    private val pixels = IntArray(size * size)

    init {
        require(manifest.getString("embedded_preprocessing") == "normalize") {
            "$MODEL contains other steps of the preprocessing: $REMEDY"
        }
    }

    /** Returns the [topK] most probable classes of an upright image, the most probable first. */
    fun classify(image: Bitmap, topK: Int = 3): List<Prediction> {
        cropAndResize(image).getPixels(pixels, 0, size, 0, 0, size, size)
        input.rewind()
        for (pixel in pixels) {
            input.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte())
        }
        input.rewind()
        val logits = arrayOf(FloatArray(labels.length()))
        interpreter.run(input, logits)
        val probabilities = softmax(logits[0])
        return probabilities.indices
            .sortedByDescending { probabilities[it] }
            .take(topK)
            .map { Prediction(labels.getString(it), probabilities[it]) }
    }

    /**
     * Crops and resizes an image to [size] x [size] pixels, as the manifest states: the crop
     * "center" keeps a square in the center, and the crop "squash" keeps the whole image. Android's
     * filter is bilinear, so the probabilities are close to those of the Python package, and not
     * equal.
     */
    private fun cropAndResize(image: Bitmap): Bitmap {
        if (preprocess.getString("crop") == "squash") {
            return Bitmap.createScaledBitmap(image, size, size, true)
        }
        val shorterSide = min(image.width, image.height).toLong()
        val side = (shorterSide * size / preprocess.getInt("resize")).toInt()
        val left = (image.width - side) / 2
        val top = (image.height - side) / 2
        val center = Bitmap.createBitmap(image, left, top, side, side)
        return Bitmap.createScaledBitmap(center, size, size, true)
    }

    override fun close() = interpreter.close()
}

private fun mapAsset(context: Context, name: String): MappedByteBuffer =
    context.assets.openFd(name).use {
        val channel = FileInputStream(it.fileDescriptor).channel
        channel.map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
    }

/** Returns the probabilities of all classes, each from 0 to 1. */
private fun softmax(logits: FloatArray): List<Float> {
    val largest = logits.max()
    val powers = logits.map { exp(it - largest) }
    val sum = powers.sum()
    return powers.map { it / sum }
}

/** Characters that act instead of being shown: line breaks, marks of bidirectional text, ... */
private val UNPRINTABLE = Regex("[\\p{C}\\p{Zl}\\p{Zp}]")

/** Replaces these characters by their codes, because the text may come from a stranger's file. */
private fun escapeText(text: String) =
    text.replace(UNPRINTABLE) { "\\u{%x}".format(it.value.codePointAt(0)) }

/**
 * Returns the text of an entry of the ZIP archive that follows the network in a .tflite file.
 *
 * This reader is needed because Android's ZipFile refuses an archive with other bytes in front of
 * it. The entries are not compressed. The offsets are those of the ZIP specification (PKWARE's
 * APPNOTE.TXT, section 4.3).
 */
private fun readArchiveEntry(file: ByteBuffer, name: String): String {
    val zip = file.duplicate().order(ByteOrder.LITTLE_ENDIAN)
    fun readText(offset: Int, length: Int) =
        ByteArray(length).also { zip.position(offset); zip.get(it) }.decodeToString()
    fun readShort(offset: Int) = zip.getShort(offset).toInt() and 0xffff

    // The end record has 22 bytes if it has no comment, and begins with this signature.
    val endRecord = (zip.limit() - 22 downTo 0).first { zip.getInt(it) == 0x06054b50 }
    val entryCount = readShort(endRecord + 10)
    var header = zip.getInt(endRecord + 16) // the first header of the central directory
    repeat(entryCount) {
        val nameLength = readShort(header + 28)
        if (readText(header + 46, nameLength) == name) {
            // The entry's content follows its local header, a name and extra data.
            val localHeader = zip.getInt(header + 42)
            val content =
                localHeader + 30 + readShort(localHeader + 26) + readShort(localHeader + 28)
            return readText(content, zip.getInt(header + 24))
        }
        header += 46 + nameLength + readShort(header + 30) + readShort(header + 32)
    }
    error("$MODEL has no $name: $REMEDY")
}

/** Shows the camera's preview with the predictions of the newest frame above it. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var classifier: Classifier
    private lateinit var resultView: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        classifier = Classifier(this)
        val previewView = PreviewView(this)
        resultView = TextView(this).apply {
            textSize = 20f
            setBackgroundColor(0xa0000000.toInt())
            setTextColor(-1)
            setPadding(24, 24, 24, 24)
        }
        val layout = FrameLayout(this).apply {
            fitsSystemWindows = true
            addView(previewView)
            addView(resultView, FrameLayout.LayoutParams(-1, -2))
        }
        setContentView(layout)
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) {
                startCamera(previewView)
            } else {
                resultView.text = "This app needs the camera. Please allow it in the settings."
            }
        }.launch(Manifest.permission.CAMERA)
    }

    private fun startCamera(previewView: PreviewView) {
        val camera = LifecycleCameraController(this)
        // While the worker is busy, newer frames replace the waiting one, so none is out of date.
        camera.imageAnalysisBackpressureStrategy = ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST
        camera.imageAnalysisOutputImageFormat = ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888
        camera.setImageAnalysisAnalyzer(worker) { frame -> frame.use(::classifyFrame) }
        camera.bindToLifecycle(this)
        previewView.controller = camera
    }

    /** Classifies a frame and shows the predictions; called by the worker. */
    private fun classifyFrame(frame: ImageProxy) {
        val startNs = SystemClock.elapsedRealtimeNanos()
        val rotation = Matrix().apply { postRotate(frame.imageInfo.rotationDegrees.toFloat()) }
        val upright = frame.toBitmap().let {
            Bitmap.createBitmap(it, 0, 0, it.width, it.height, rotation, true)
        }
        val predictions = classifier.classify(upright)
        val latencyMs = (SystemClock.elapsedRealtimeNanos() - startNs) / 1_000_000
        val lines = predictions.joinToString("\n") {
            "%3.0f%%  %s".format(100 * it.probability, escapeText(it.label))
        }
        runOnUiThread { resultView.text = "$lines\n$latencyMs ms" }
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { classifier.close() }
        worker.shutdown()
    }
}
