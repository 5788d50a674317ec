// Bringing history back from the key backup, as an `AsyncStream`: the generated code has an id, and updates among all
// others.

import Foundation

/// What is heard of a restore.
public enum Restoring: Sendable, Equatable {
    /// Its requests wait to be sent: run ``MlsMachine/drive(_:)``. The id is that of `MlsBackup.restores`, the same for
    /// whoever asked for the same.
    case begun(id: UInt64)
    /// Sessions were taken: how many were taken or found wrong, and how many there are.
    case progress(done: UInt64, total: UInt64)
    /// It has come to its end; nothing follows. How many epochs became readable that were not before, and what was
    /// left out, and why.
    case finished(epochs: UInt64, failures: [HistoryFailure])
}

extension MlsMachine {
    /// Restores from the key backup, and says how that goes; without a key, with that of the enabled backup.
    ///
    /// It has begun when this returns; what it takes from the homeserver is fetched by ``drive(_:)``, which runs beside
    /// the reading of the stream. Letting go of the stream, or cancelling the task that reads it, stops the restore; what
    /// it has brought back stays. One that no screen waits for is begun with `MlsBackup.restore`. When the machine is
    /// shut down the stream ends without `finished`, and the restore goes on once the machine is opened again; asking
    /// for the same again then joins it.
    public func restoring(
        _ key: RecoveryKey? = nil, _ scope: RestoreScope = .allRooms
    ) async throws -> AsyncStream<Restoring> {
        let (stream, continuation) = AsyncStream.makeStream(of: Restoring.self, bufferingPolicy: .unbounded)
        let observer = RestoreObserver(continuation)
        // Before it begins, so that nothing is missed.
        let subscription = try await subscribe(observer: observer)
        let backup = backup()
        let id: UInt64
        do {
            id = try await backup.restore(key: key, scope: scope)
        } catch {
            subscription.stop()
            throw error
        }
        continuation.onTermination = { reason in
            subscription.stop()
            guard case .cancelled = reason else { return }
            // In a machine that was shut down there is nothing to stop.
            Task { try? await backup.cancelRestore(id: id) }
        }
        observer.follow(id)
        return stream
    }
}

/// Hands what the engine tells of one restore to a stream. What comes before its id is known waits.
private final class RestoreObserver: UpdateObserver, @unchecked Sendable {
    private let continuation: AsyncStream<Restoring>.Continuation
    private let lock = NSLock()
    private var id: UInt64?
    private var early: [Update] = []
    private var hasEnded = false

    init(_ continuation: AsyncStream<Restoring>.Continuation) {
        self.continuation = continuation
    }

    func follow(_ id: UInt64) {
        lock.withLock {
            self.id = id
            continuation.yield(.begun(id: id))
            early.forEach { tell($0, of: id) }
            early = []
            if hasEnded { continuation.finish() }
        }
    }

    func onUpdate(update: Update) {
        lock.withLock {
            if let id { tell(update, of: id) } else { early.append(update) }
        }
    }

    func onEnd() {
        lock.withLock {
            hasEnded = true
            if id != nil { continuation.finish() }
        }
    }

    private func tell(_ update: Update, of id: UInt64) {
        switch update {
        case .restoreProgress(id, let done, let total):
            continuation.yield(.progress(done: done, total: total))
        case .restoreFinished(id, let epochs, let failures):
            continuation.yield(.finished(epochs: epochs, failures: failures))
            continuation.finish()
        default:
            break
        }
    }
}
