// Classifies what the camera sees with a .tflite that tinyvit-export wrote: labels and preprocessing come from the file.
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
import java.nio.channels.FileChannel
import java.util.concurrent.Executors
import kotlin.math.exp
import kotlin.math.min

private const val MODEL = "model.tflite" // in src/main/assets, not compressed

/** An open file. Its manifest (tinyvit.json) is in the ZIP archive behind the network. */
class Classifier(context: Context) : AutoCloseable {
    private val file = context.assets.openFd(MODEL).use {
        FileInputStream(it.fileDescriptor).channel.map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
    }
    private val manifest = JSONObject(stored(file, "tinyvit.json"))
    private val preprocess = manifest.getJSONObject("preprocess")
    private val size = preprocess.getInt("size")
    private val names = manifest.getJSONObject("labels").getJSONArray("names")
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(4))
    private val input = ByteBuffer.allocateDirect(size * size * 3).order(ByteOrder.nativeOrder())
    private val pixels = IntArray(size * size)

    init {
        require(manifest.getString("stage") == "normalize") { "$MODEL: export it with --target litert --preprocess normalize" }
    }

    /** Label and probability, best first. The picture must be upright. */
    fun classify(picture: Bitmap, topK: Int = 3): List<Pair<String, Float>> {
        squared(picture).getPixels(pixels, 0, size, 0, 0, size, size)
        input.rewind()
        for (pixel in pixels) {
            input.put((pixel shr 16).toByte()).put((pixel shr 8).toByte()).put(pixel.toByte()) // RGB, (1, size, size, 3)
        }
        input.rewind()
        val logits = arrayOf(FloatArray(names.length()))
        interpreter.run(input, logits)
        val largest = logits[0].max()
        val powers = logits[0].map { exp(it - largest) }
        val sum = powers.sum()
        return powers.indices.sortedByDescending { powers[it] }.take(topK).map { names.getString(it) to powers[it] / sum }
    }

    /** As much of the picture's middle as preprocessing keeps, or all of it, as size x size pixels. Android filters bilinearly: answers are near Python's. */
    private fun squared(picture: Bitmap): Bitmap {
        if (preprocess.getString("crop") == "squash") return Bitmap.createScaledBitmap(picture, size, size, true)
        val side = (min(picture.width, picture.height).toLong() * size / preprocess.getInt("resize")).toInt()
        val middle = Bitmap.createBitmap(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side)
        return Bitmap.createScaledBitmap(middle, size, size, true)
    }

    /** A text of the archive. By hand: Android's ZipFile refuses an archive that something stands in front of. Nothing in it is compressed. */
    private fun stored(file: ByteBuffer, wanted: String): String {
        val zip = file.duplicate().order(ByteOrder.LITTLE_ENDIAN)
        fun text(at: Int, length: Int) = ByteArray(length).also { zip.position(at); zip.get(it) }.decodeToString()
        fun short(at: Int) = zip.getShort(at).toInt() and 0xffff
        val end = (zip.limit() - 22 downTo 0).first { zip.getInt(it) == 0x06054b50 }
        var at = zip.getInt(end + 16)
        repeat(short(end + 10)) {
            if (text(at + 46, short(at + 28)) == wanted) {
                val local = zip.getInt(at + 42)
                return text(local + 30 + short(local + 26) + short(local + 28), zip.getInt(at + 24))
            }
            at += 46 + short(at + 28) + short(at + 30) + short(at + 32)
        }
        error("$MODEL has no $wanted: make it with tinyvit-export --target litert --preprocess normalize")
    }

    override fun close() = interpreter.close()
}

class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var classifier: Classifier
    private lateinit var text: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        classifier = Classifier(this)
        val preview = PreviewView(this)
        text = TextView(this).apply { textSize = 20f; setBackgroundColor(0xa0000000.toInt()); setTextColor(-1); setPadding(24, 24, 24, 24) }
        setContentView(FrameLayout(this).apply { fitsSystemWindows = true; addView(preview); addView(text, FrameLayout.LayoutParams(-1, -2)) })
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) start(preview) else text.text = "The camera is needed: allow it in the system's settings"
        }.launch(Manifest.permission.CAMERA)
    }

    private fun start(preview: PreviewView) {
        val camera = LifecycleCameraController(this)
        camera.imageAnalysisBackpressureStrategy = ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST // never a stale frame
        camera.imageAnalysisOutputImageFormat = ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888
        camera.setImageAnalysisAnalyzer(worker) { frame -> frame.use(::show) }
        camera.bindToLifecycle(this)
        preview.controller = camera
    }

    private fun show(frame: ImageProxy) {
        val start = SystemClock.elapsedRealtimeNanos()
        val turned = Matrix().apply { postRotate(frame.imageInfo.rotationDegrees.toFloat()) }
        val upright = frame.toBitmap().let { Bitmap.createBitmap(it, 0, 0, it.width, it.height, turned, true) }
        val best = classifier.classify(upright)
        val ms = (SystemClock.elapsedRealtimeNanos() - start) / 1_000_000
        val lines = best.joinToString("\n") { (label, score) -> "%3.0f%%  %s".format(100 * score, label) }
        runOnUiThread { text.text = "$lines\n$ms ms" }
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { classifier.close() }
        worker.shutdown()
    }
}
