// Classifies the camera's images with an .mlpackage that tinyvit-export wrote. The file is a
// Core ML classifier, so it contains the class labels and the normalization.
import AVFoundation
import Combine
import CoreML
import SwiftUI
import Vision

@main
struct TinyViTApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}

/// The camera's preview with the predictions of the newest frame above it.
struct ContentView: View {
    @StateObject private var classifier = CameraClassifier()

    var body: some View {
        ZStack(alignment: .bottomLeading) {
            CameraPreview(session: classifier.session).ignoresSafeArea()
            Text(classifier.message)
                .font(.title3.monospacedDigit())
                .padding()
                .background(.thinMaterial)
        }
        .task { await classifier.start() }
    }
}

/// Classifies the camera's frames one after another. Vision crops and resizes them. Frames that
/// come during a classification are dropped, so that none is out of date.
final class CameraClassifier: NSObject, ObservableObject,
    AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable
{
    /// The predictions of the newest frame, or why there are none.
    @Published var message = "…"
    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "frames")
    // `start` sets the request before the first frame comes. Later it is only read, on `queue`.
    private nonisolated(unsafe) var request: VNCoreMLRequest?

    /// Asks for permission, loads the model, and starts the camera.
    func start() async {
        do {
            guard await AVCaptureDevice.requestAccess(for: .video) else {
                return await show("This app needs the camera. Please allow it in Settings.")
            }
            // Xcode compiles model.mlpackage, and puts it into the app as model.mlmodelc.
            guard let url = Bundle.main.url(forResource: "model", withExtension: "mlmodelc") else {
                return await show("The app does not contain model.mlpackage.")
            }
            let model = try MLModel(contentsOf: url)
            let request = VNCoreMLRequest(model: try VNCoreMLModel(for: model))
            request.imageCropAndScaleOption = try isSquashed(model) ? .scaleFill : .centerCrop
            self.request = request
            guard
                let device = AVCaptureDevice.default(
                    .builtInWideAngleCamera, for: .video, position: .back)
            else {
                return await show("This device has no camera.")
            }
            try configureSession(device)
            queue.async { self.session.startRunning() }
        } catch {
            await show(error.localizedDescription)
        }
    }

    private func configureSession(_ device: AVCaptureDevice) throws {
        session.addInput(try AVCaptureDeviceInput(device: device))
        let output = AVCaptureVideoDataOutput()
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.addOutput(output)
    }

    /// Returns whether the preprocessing resizes the whole image to a square, without a crop. Some
    /// models of 384 and 512 pixels do so.
    private func isSquashed(_ model: MLModel) throws -> Bool {
        struct Manifest: Decodable {
            struct Preprocess: Decodable { let crop: String }
            let preprocess: Preprocess
        }
        let metadata = model.modelDescription.metadata
        guard let json = (metadata[.creatorDefinedKey] as? [String: String])?["tinyvit"] else {
            return false
        }
        let manifest = try JSONDecoder().decode(Manifest.self, from: Data(json.utf8))
        return manifest.preprocess.crop == "squash"
    }

    nonisolated func captureOutput(
        _ output: AVCaptureOutput, didOutput frame: CMSampleBuffer,
        from connection: AVCaptureConnection
    ) {
        guard let request else { return }
        let start = ContinuousClock.now
        // The sensor's image is rotated by 90 degrees while the phone is held upright.
        try? VNImageRequestHandler(cmSampleBuffer: frame, orientation: .right).perform([request])
        let latency = ContinuousClock.now - start
        let observations = request.results as? [VNClassificationObservation] ?? []
        let lines = observations.prefix(3).map {
            String(format: "%3.0f%%  ", 100 * $0.confidence) + escapeText($0.identifier)
        }
        let latencyText = latency.formatted(.units(allowed: [.milliseconds]))
        let text = lines.joined(separator: "\n") + "\n\(latencyText)"
        Task { await show(text) }
    }

    @MainActor private func show(_ text: String) {
        message = text
    }
}

/// Replaces characters that act instead of being shown, such as line breaks and marks of
/// bidirectional text, by their codes, because the text may come from a stranger's file.
func escapeText(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator:
            return "\\u{" + String(scalar.value, radix: 16) + "}"
        default:
            return String(scalar)
        }
    }.joined()
}

/// Shows what the camera of a session sees.
struct CameraPreview: UIViewRepresentable {
    let session: AVCaptureSession

    final class PreviewLayerView: UIView {
        override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
    }

    func makeUIView(context: Context) -> PreviewLayerView {
        let view = PreviewLayerView()
        let layer = view.layer as! AVCaptureVideoPreviewLayer
        layer.session = session
        layer.videoGravity = .resizeAspectFill
        return view
    }

    func updateUIView(_ view: PreviewLayerView, context: Context) {}
}
