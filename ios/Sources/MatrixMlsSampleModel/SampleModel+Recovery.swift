/// The user's recovery key: with it a new phone has the user's identity, and reads earlier messages.

import Foundation
import MatrixMls

extension SampleModel {
    /// Asks the homeserver how the recovery key stands; the answer is told as an update.
    func lookForRecovery(_ account: Account) async throws {
        let identity = account.machine.identity()
        try await identity.lookForRecovery()
        state.recovery = Recovery(storage: try await identity.recoveryState(), identity: try await identity.state())
        wake()
    }

    /// Keeps what is shown of it as it is by now.
    func hearOfRecovery(_ update: Update, _ account: Account) async throws {
        switch update {
        case .recoveryChanged, .identityStateChanged:
            let identity = account.machine.identity()
            state.recovery = Recovery(storage: try await identity.recoveryState(), identity: try await identity.state())
        case .recoveryFailed(let code, let reason):
            state.problem = "\(reason) (\(code))"
        case .restoreProgress(_, let done, let total):
            state.restoring = "Restoring earlier messages: \(done) of \(total)"
        case .restoreFinished(_, _, let failures):
            state.restoring = nil
            if let failure = failures.first { state.problem = "Not everything could be restored (\(failure.code))" }
        default:
            break
        }
    }

    /// Makes a key backup and a recovery key, under which the identity's private keys are kept as well. The user has to
    /// write the key down: it is `state.newRecoveryKey` until `keyIsWrittenDown`.
    public func setUpRecovery() async {
        await decide { account in
            // A set-up that was interrupted goes on with the backup that it has made.
            var key = try await account.machine.backup().recoveryKey()
            if key == nil { key = try await account.machine.createBackup(account.homeserver.transport) }
            guard let key else { return }
            try await account.machine.identity().storeSecrets(key: key, replace: false)
            // Only now: the key of a backup that could not be made opens nothing.
            self.state.newRecoveryKey = key.text()
        }
    }

    /// The user has the new key.
    public func keyIsWrittenDown() {
        state.newRecoveryKey = nil
    }

    /// Opens everything with the key that the user has typed. How it ends is told by updates.
    public func recover(_ typed: String) async {
        await decide { account in
            try await account.machine.identity().recoverWithHistory(key: try RecoveryKey.parse(text: typed))
        }
    }
}
