// Classifies what the camera sees with an .mlpackage that tinyvit-export wrote: a classifier whose labels and arithmetic are in the file.
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

struct ContentView: View {
    @StateObject private var camera = Camera()

    var body: some View {
        ZStack(alignment: .bottomLeading) {
            Preview(session: camera.session).ignoresSafeArea()
            Text(camera.answer).font(.title3.monospacedDigit()).padding().background(.thinMaterial)
        }
        .task { await camera.start() }
    }
}

/// The camera's frames, each classified by Vision, which resizes and crops; frames that come meanwhile are dropped.
final class Camera: NSObject, ObservableObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    @Published var answer = "…"
    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "frames")
    private nonisolated(unsafe) var request: VNCoreMLRequest? // set before the first frame, then read on `queue` alone

    func start() async {
        do {
            guard await AVCaptureDevice.requestAccess(for: .video) else { return await say("The camera is needed: allow it in Settings") }
            // Xcode compiles model.mlpackage into the app as model.mlmodelc.
            guard let url = Bundle.main.url(forResource: "model", withExtension: "mlmodelc") else { return await say("model.mlpackage is not in the app") }
            let model = try MLModel(contentsOf: url)
            let request = VNCoreMLRequest(model: try VNCoreMLModel(for: model))
            request.imageCropAndScaleOption = try squashes(model) ? .scaleFill : .centerCrop
            self.request = request
            guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else { return await say("There is no camera") }
            session.addInput(try AVCaptureDeviceInput(device: device))
            let output = AVCaptureVideoDataOutput()
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(self, queue: queue)
            session.addOutput(output)
            queue.async { self.session.startRunning() }
        } catch {
            await say(error.localizedDescription)
        }
    }

    /// Whether the whole picture becomes a square, as the manifest in the file says: of 384 and 512 pixels, some do.
    private func squashes(_ model: MLModel) throws -> Bool {
        struct Manifest: Decodable {
            struct Preprocess: Decodable { let crop: String }
            let preprocess: Preprocess
        }
        guard let said = (model.modelDescription.metadata[.creatorDefinedKey] as? [String: String])?["tinyvit"] else { return false }
        return try JSONDecoder().decode(Manifest.self, from: Data(said.utf8)).preprocess.crop == "squash"
    }

    nonisolated func captureOutput(_ output: AVCaptureOutput, didOutput frame: CMSampleBuffer, from connection: AVCaptureConnection) {
        guard let request else { return }
        let start = ContinuousClock.now
        // The sensor lies on its side when the phone is held upright.
        try? VNImageRequestHandler(cmSampleBuffer: frame, orientation: .right).perform([request])
        let took = ContinuousClock.now - start
        let best = (request.results as? [VNClassificationObservation] ?? []).prefix(3)
        let lines = best.map { String(format: "%3.0f%%  ", 100 * $0.confidence) + $0.identifier }
        let text = lines.joined(separator: "\n") + "\n\(took.formatted(.units(allowed: [.milliseconds])))"
        Task { await say(text) }
    }

    @MainActor private func say(_ text: String) {
        answer = text
    }
}

struct Preview: UIViewRepresentable {
    let session: AVCaptureSession

    final class Layered: UIView {
        override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
    }

    func makeUIView(context: Context) -> Layered {
        let view = Layered()
        let layer = view.layer as! AVCaptureVideoPreviewLayer
        layer.session = session
        layer.videoGravity = .resizeAspectFill
        return view
    }

    func updateUIView(_ view: Layered, context: Context) {}
}
