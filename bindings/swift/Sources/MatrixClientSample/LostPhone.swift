// What a user does for the day on which the phone is lost, and on the new one: a recovery key to write down, the same
// typed in again, and signing the lost phone out.

import Foundation
import MatrixMls

extension MatrixClient {
    /// Makes a key backup of all that this device can read, and of what comes. Returns the key's text, to be written
    /// down.
    public func backUp() async throws -> String {
        let key = try await machine.createBackup(transport)
        // The key is good from here on. What is to be backed up goes in with the next requests.
        try await machine.drive(transport)
        return key.text()
    }

    /// Goes on with the account's key backup, whose key the user has typed, and brings back all that is in it, telling
    /// how many of how many sessions were taken. Throws `InvalidInput` with a code for the mistake when it is mistyped.
    public func restore(
        _ typed: String, onProgress: @escaping @Sendable (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) async throws -> Restored {
        try await machine.restoreBackup(transport, key: try RecoveryKey.parse(text: typed), onProgress: onProgress)
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
