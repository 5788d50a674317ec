/// What the user does about who is really there, and keeping what is shown of it as it is by now.

import Foundation
import MatrixClientSample
import MatrixMls

extension SampleModel {
    /// Follows what the engine tells of people, until cancelled or shut down.
    func watchLoop(_ account: Account) async {
        do {
            let updates = try await account.machine.updates()
            // What was told while nobody watched.
            state.identity = try await account.machine.identity().state()
            try await lookForRecovery(account)
            for info in try await account.machine.verifications() { try await show(info.id, account) }
            for user in Set(state.rooms.flatMap(\.joined)) { try await look(user, account) }
            for await update in updates {
                try await hear(update, account)
                try await hearOfRecovery(update, account)
            }
        } catch {
            if !Task.isCancelled { state.problem = describe(error) }
        }
    }

    private func hear(_ update: Update, _ account: Account) async throws {
        switch update {
        case .trustChanged(let users):
            for user in users { try await look(user, account) }
            await reloadTimelines(account)
        case .joined, .epochChanged, .catchingUp, .historyShared, .restoreFinished:
            // More may open than before.
            await reloadTimelines(account) { !$0.allSatisfy(\.isReadable) }
        case .identityChanged(let user):
            try await look(user, account)
        case .identityStateChanged(let identity):
            state.identity = identity
        case .verificationRequested(let id, _, _), .verificationChanged(let id, _):
            try await show(id, account)
        default:
            break
        }
    }

    /// Whether a user is to be warned of.
    private func look(_ user: String, _ account: Account) async throws {
        let changed = ChangedIdentity(try await account.machine.userIdentity(userId: user))
        state.changedIdentities.removeAll { $0.id == user }
        if let changed { state.changedIdentities.append(changed) }
    }

    /// Shows a verification as it is. Whoever has asked begins the comparison as soon as both want it.
    private func show(_ id: String, _ account: Account) async throws {
        let verification = account.machine.verification(verificationId: id)
        let info = try await verification.info()
        if !info.isIncoming && info.state == .ready {
            do {
                try await verification.startSas()
            } catch let error as MlsError where error.code == "not_now" {
                // The other side has begun meanwhile.
            }
            wake()
        }
        let comparison = Comparison(try await verification.info())
        // The user may have closed it while news of it were on the way.
        if closedComparisons.contains(id) { return }
        // Two of these may wait at once. What was read before the end must not be shown after it.
        if let shown = state.comparison, shown.id == id, shown.isOver, !comparison.isOver { return }
        state.comparison = comparison
    }

    /// The user takes the new identity for theirs, unverified.
    public func accept(_ changed: ChangedIdentity) async {
        await decide { account in
            try await account.machine.acceptIdentity(userId: changed.id, masterKey: changed.masterKey)
            try await self.look(changed.id, account)
        }
    }

    /// The user does not hold on to having verified them.
    public func withdraw(_ changed: ChangedIdentity) async {
        await decide { account in
            try await account.machine.withdrawVerification(userId: changed.id)
            try await self.look(changed.id, account)
        }
    }

    /// Asks somebody to compare emojis.
    public func verify(_ userId: String) async {
        await decide { account in
            let verification = try await account.machine.requestVerification(userId: userId, deviceId: nil)
            try await self.show(verification.id(), account)
        }
    }

    /// Answers the one who asks.
    public func answer(_ comparison: Comparison) async {
        await act(comparison) { try await $0.accept() }
    }

    /// Both devices show the same.
    public func match(_ comparison: Comparison) async {
        await act(comparison) { try await $0.confirm() }
    }

    /// They do not.
    public func mismatch(_ comparison: Comparison) async {
        await act(comparison) { try await $0.mismatch() }
    }

    /// Ends it, or takes it off the screen where it is over.
    public func leave(_ comparison: Comparison) async {
        if comparison.isOver {
            closedComparisons.insert(comparison.id)
            state.comparison = nil
        } else {
            await act(comparison) { try await $0.cancel() }
        }
    }

    private func act(_ comparison: Comparison, _ action: @MainActor (Verification) async throws -> Void) async {
        await decide { account in
            try await action(account.machine.verification(verificationId: comparison.id))
            try await self.show(comparison.id, account)
        }
    }

    /// Does what the user has decided, and has sent what the engine then has to send.
    func decide(_ action: @MainActor (Account) async throws -> Void) async {
        await attempt {
            guard let account = self.account else { throw CancellationError() }
            try await action(account)
            self.wake()
        }
    }

    /// Makes the identity anew, for a user who has lost all devices: whoever had verified the user is asked.
    public func resetIdentity(password: String) async {
        await decide { account in
            let identity = account.machine.identity()
            try await identity.reset()
            try await account.machine.drive(account.homeserver.transport)
            guard case .authNeeded(let challenge) = try await identity.state() else { return }
            let auth: Json = [
                "type": "m.login.password", "password": password, "session": challenge.session ?? "",
                "identifier": ["type": "m.id.user", "user": account.session.userId],
            ]
            try await identity.authorize(auth: String(decoding: try writeJson(auth), as: UTF8.self))
        }
    }
}
