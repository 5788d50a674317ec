// Making a key backup and bringing one back, each as one call that drives, and that ends or fails.

import Foundation

/// How a restore ended.
public struct Restored: Sendable, Equatable {
    /// How many epochs became readable that were not before.
    public let epochs: UInt64
    /// What was left out, and why.
    public let failures: [HistoryFailure]
}

extension MlsMachine {
    /// Makes a key backup, and gives its recovery key once the homeserver has the backup.
    ///
    /// Show the key only then: a key of a backup that could not be made opens nothing. Without a `key` a new one is
    /// generated. Waits without a network. Where the task is cancelled the backup may still be made;
    /// `MlsBackup.recoveryKey` has its key then.
    ///
    /// Throws `InvalidInput` with `"backup_exists"` if there is a backup already and `replace` is false: have the user
    /// type its key, and call ``restoreBackup(_:key:scope:onProgress:)``. Throws `Rejected` with the homeserver's own code
    /// if the homeserver refuses, and what ``drive(_:)`` throws.
    public func createBackup(
        _ transport: some Transport, key: RecoveryKey? = nil, replace: Bool = false
    ) async throws -> RecoveryKey {
        let made = try key ?? RecoveryKey.generate()
        let heard = try await updates()
        let backup = backup()
        try await backup.create(key: made, replace: replace)
        try await driving(transport) {
            for await update in heard {
                if case .backupFailed(let code, let reason) = update { throw backupFailed(code, reason) }
                guard case .backupChanged(.enabled) = update else { continue }
                if try await backup.recoveryKey()?.text() == made.text() { return }
            }
            try Task.checkCancellation()
            throw closed()
        }
        return made
    }

    /// Goes on with the account's key backup and restores from it, with the key that the user has typed. Gives how that
    /// ended, with what was left out, and tells the progress.
    ///
    /// Sends what it needs by itself. Ends or fails always, but waits without a network. Cancelling the task stops it;
    /// what was brought back stays. Decrypt again afterwards what could not be read.
    ///
    /// Throws `InvalidInput` if nothing could be restored at all: with `"wrong_key"` for another key than the backup's,
    /// with `"no_backup"` if there is none, with `"unsupported_backup"` for one of an unknown kind. Throws `Rejected`
    /// with the homeserver's own code if the homeserver refuses, and what ``drive(_:)`` throws.
    public func restoreBackup(
        _ transport: some Transport, key: RecoveryKey, scope: RestoreScope = .allRooms,
        onProgress: @escaping @Sendable (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) async throws -> Restored {
        try await backup().enable(key: key)
        let steps = try await restoring(key, scope)
        let end = Ending()
        try await driving(transport) {
            for await step in steps {
                switch step {
                case .begun: continue
                case .progress(let done, let total): onProgress(done, total)
                case .finished(let epochs, let failures): end.restored = Restored(epochs: epochs, failures: failures)
                }
            }
            try Task.checkCancellation()
        }
        guard let restored = end.restored else { throw closed() }
        if restored.epochs == 0, restored.failures.count == 1, let failure = restored.failures.first, failure.isOfAll {
            throw backupFailed(failure.code, failure.reason)
        }
        return restored
    }

    /// Runs a block and sends what the machine has to send, until the block is done or sending fails.
    private func driving(
        _ transport: some Transport, _ block: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.driveForEver(transport) }
            group.addTask { try await block() }
            defer { group.cancelAll() }
            // Driving ends by failing alone.
            _ = try await group.next()
        }
    }
}

/// Where a block that runs beside others leaves what it found.
private final class Ending: @unchecked Sendable {
    private let lock = NSLock()
    private var found: Restored?

    var restored: Restored? {
        get { lock.withLock { found } }
        set { lock.withLock { found = newValue } }
    }
}

extension HistoryFailure {
    /// Whether it is about the whole restore, and not about single sessions.
    fileprivate var isOfAll: Bool {
        ["wrong_key", "no_backup", "unsupported_backup"].contains(code) || isOfServer(code)
    }
}

private func isOfServer(_ code: String) -> Bool {
    code.hasPrefix("M_") || code.hasPrefix("HTTP_")
}

private func backupFailed(_ code: String, _ reason: String) -> MlsError {
    let details = ErrorDetails(code: code, reason: reason, retryable: false)
    return isOfServer(code) ? .Rejected(details: details) : .InvalidInput(details: details)
}

private func closed() -> MlsError {
    let reason = "the machine was shut down: open it again, and call this again"
    return .Closed(details: ErrorDetails(code: "closed", reason: reason, retryable: false))
}
