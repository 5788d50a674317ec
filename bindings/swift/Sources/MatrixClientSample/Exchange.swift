// One HTTP exchange on Linux, where cancelling a URLSessionTask can stop the process or hang it (issues 3292 and 5412 of
// swift-corelibs-foundation). So a cancelled task stops waiting at once, and the exchange goes on to its end unheard: to
// the engine that is a request without an answer, which it hands out again with the same transaction id.

#if canImport(FoundationNetworking)
    import Foundation
    import FoundationNetworking

    /// Whoever waits for an answer, told once: of the answer, or of being cancelled, whichever comes first.
    final class Exchange: @unchecked Sendable {
        typealias Answer = (Data, URLResponse)

        private let lock = NSLock()
        private var waiting: CheckedContinuation<Answer, any Error>?
        private var isCancelled = false

        static func run(_ request: URLRequest, in session: URLSession) async throws -> Answer {
            let exchange = Exchange()
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    guard exchange.wait(continuation) else { return }
                    let task = session.dataTask(with: request) { data, response, error in
                        if let data, let response, error == nil {
                            exchange.end(.success((data, response)))
                        } else {
                            exchange.end(.failure(error ?? URLError(.unknown)))
                        }
                    }
                    task.resume()
                }
            } onCancel: {
                exchange.cancel()
            }
        }

        /// Begins to wait, unless the task was cancelled before.
        private func wait(_ continuation: CheckedContinuation<Answer, any Error>) -> Bool {
            let isCancelled = lock.withLock {
                if !self.isCancelled { waiting = continuation }
                return self.isCancelled
            }
            if isCancelled { continuation.resume(throwing: CancellationError()) }
            return !isCancelled
        }

        private func cancel() {
            lock.withLock { isCancelled = true }
            end(.failure(CancellationError()))
        }

        private func end(_ result: Result<Answer, any Error>) {
            let waiting = lock.withLock {
                defer { self.waiting = nil }
                return self.waiting
            }
            waiting?.resume(with: result)
        }
    }
#endif
