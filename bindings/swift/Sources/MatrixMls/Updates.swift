// What an app watches, as an `AsyncStream`: the generated code only has an observer that Rust calls back.

extension MlsMachine {
    /// What changes, from now on: each call is a subscription of its own, made before this returns.
    ///
    /// The stream ends when the machine is shut down, and the subscription when the stream is let go of or the task
    /// that reads it is cancelled. None is lost to a slow reader: they wait in memory. A stream has one reader.
    public func updates() async throws -> AsyncStream<Update> {
        let (stream, continuation) = AsyncStream.makeStream(of: Update.self, bufferingPolicy: .unbounded)
        let subscription = try await subscribe(observer: StreamObserver(continuation))
        continuation.onTermination = { _ in subscription.stop() }
        return stream
    }
}

/// Hands what the engine tells to a stream. It holds the stream's continuation only, so that a stream nobody reads
/// any more goes, and the subscription with it.
private final class StreamObserver: UpdateObserver {
    private let continuation: AsyncStream<Update>.Continuation

    init(_ continuation: AsyncStream<Update>.Continuation) {
        self.continuation = continuation
    }

    func onUpdate(update: Update) {
        continuation.yield(update)
    }

    func onEnd() {
        continuation.finish()
    }
}
