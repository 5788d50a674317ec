// What a user does for the day on which the phone is lost, and on the new one: a recovery key to write down, the same
// typed in again, and signing the lost phone out.

import Foundation
import MatrixMls

/// What came of a restore.
public struct Restored: Sendable {
    /// How many epochs became readable.
    public let epochs: UInt64
    /// What was left out.
    public let failures: [HistoryFailure]
}

extension MatrixClient {
    /// Makes a key backup of all that this device can read, and of what comes. Returns the key's text, to be written
    /// down.
    public func backUp() async throws -> String {
        let (key, backup) = (try RecoveryKey.generate(), machine.backup())
        try await backup.create(key: key, replace: false)
        try await machine.drive(transport)
        let state = try await backup.state()
        guard case .enabled = state else {
            throw MatrixError(what: "an enabled backup", status: nil, body: "\(state)")
        }
        return key.text()
    }

    /// Goes on with the account's key backup, whose key the user has typed, and brings back all that is in it, telling
    /// how many of how many sessions were taken. Throws `InvalidInput` with a code for the mistake when it is mistyped.
    public func restore(
        _ typed: String, onProgress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) async throws -> Restored {
        let key = try RecoveryKey.parse(text: typed)
        try await machine.backup().enable(key: key)
        let steps = try await machine.restoring(key)
        async let sent = machine.drive(transport)
        for await step in steps {
            switch step {
            case .begun:
                continue
            case .progress(let done, let total):
                onProgress(done, total)
            case .finished(let epochs, let failures):
                _ = try await sent
                return Restored(epochs: epochs, failures: failures)
            }
        }
        throw MatrixError(what: "the end of a restore", status: nil, body: "the machine was shut down")
    }

    /// Signs another device of this user out; groups leave it out from the next message on.
    public func signOut(_ deviceId: String, password: String) async throws {
        let path = "/_matrix/client/v3/delete_devices"
        var request: Json = ["devices": [deviceId]]
        var answer = try await transport.exchange("POST", path, try writeJson(request))
        if answer.status == 401 {
            // Now it wants to know who asks, in a session that it names.
            let session = try readJson(answer.body).text("session")
            let identifier = ["type": "m.id.user", "user": userId]
            request["auth"] =
                ["type": "m.login.password", "session": session, "identifier": identifier, "password": password] as Json
            answer = try await transport.exchange("POST", path, try writeJson(request))
        }
        guard answer.status == 200 else {
            throw MatrixError(what: path, status: answer.status, body: String(decoding: answer.body, as: UTF8.self))
        }
    }
}
