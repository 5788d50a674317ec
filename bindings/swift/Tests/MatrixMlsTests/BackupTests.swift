// The key backup on a homeserver: what it is like before, while and after there is one. Bringing back: RestoreTests.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class BackupTests: WatchedTestCase {
    private let locked = BackupState.locked(version: "1", megolm: false, passphrase: nil)

    func testABackupGoesFromNothingToEnabledAndSaysWhatIsInIt() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("hello", to: roomId)
        let heard = try await Heard(alice.machine)
        let backup = alice.machine.backup()
        func isState(_ expected: BackupState, line: UInt = #line) async throws {
            let state = try await backup.state()
            XCTAssertEqual(state, expected, line: line)
        }
        try await isState(.unknown)
        try await fails("InvalidInput", "no_backup") { try await backup.delete() }
        let nothing = (try await backup.recoveryKey(), try await backup.secret())
        XCTAssertNil(nothing.0)
        XCTAssertNil(nothing.1)
        try await backup.look()
        try await alice.machine.drive(alice.transport)
        try await isState(.absent)

        let key = try RecoveryKey.generate()
        try await backup.create(key: key, replace: false)
        try await isState(.working)
        try await alice.machine.drive(alice.transport)
        let enabled = BackupState.enabled(version: "1", megolm: false)
        try await isState(enabled)
        let told: BackupState = try await heard.first {
            if case .backupChanged(let state) = $0, state == enabled { state } else { nil }
        }
        XCTAssertEqual(told, enabled)
        let (shown, secret) = (try await backup.recoveryKey(), try await backup.secret())
        XCTAssertEqual(shown?.text(), key.text())
        let value = try XCTUnwrap(secret)
        XCTAssertEqual(backup.secretNames(), [value.name, "m.megolm_backup.v1"])
        XCTAssertEqual(try keyOfSecret(value: value.value).text(), key.text())
        let counts = try await backup.counts()
        XCTAssertEqual([counts.backedUp, counts.total], [2, 2])
        let progress = try await heard.first {
            if case .backupProgress(let done, let total) = $0 { [done, total] } else { nil }
        }
        XCTAssertEqual(progress, [2, 2])
        // What comes is backed up too; leaves are sessions of their own.
        try await alice.machine.room(roomId: roomId).rotateKeys()
        try await alice.send("hello again", to: roomId)
        try await alice.settle()
        let later = try await backup.counts()
        XCTAssertEqual(later.backedUp, 3)
        XCTAssertGreaterThan(later.onServer ?? 0, 3)

        try await backup.disable()
        try await isState(locked)
        try await backup.delete()
        try await alice.machine.drive(alice.transport)
        try await isState(.absent)
        try await finish(alice, bob)
    }

    func testWhatWasAskedForAndDoesNotComeAboutIsTold() async throws {
        let alice = try await account("alice")
        let key = try RecoveryKey.parse(text: try await alice.backUp())
        let phone = try await anotherDevice(alice, "NEWPHONE")
        let (wrong, backup) = (try RecoveryKey.generate(), phone.machine.backup())
        func refused(_ ask: () async throws -> Void) async throws -> String {
            let heard = try await Heard(phone.machine)
            try await ask()
            try await phone.machine.drive(phone.transport)
            return try await heard.first { if case .backupFailed(let code, _) = $0 { code } else { nil } }
        }
        let exists = try await refused { try await backup.create(key: wrong, replace: false) }
        XCTAssertEqual(exists, "backup_exists")
        let mistaken = try await refused { try await backup.enable(key: wrong) }
        XCTAssertEqual(mistaken, "wrong_key")
        let before = try await backup.state()
        XCTAssertEqual(before, locked)
        try await backup.enable(key: key)
        try await phone.machine.drive(phone.transport)
        let enabled = try await backup.state()
        XCTAssertEqual(enabled, .enabled(version: "1", megolm: false))
        // Another device makes a new one; this one finds that out, and does not have its key.
        try await alice.machine.backup().create(key: wrong, replace: true)
        try await alice.machine.drive(alice.transport)
        let changed = try await refused { try await backup.look() }
        XCTAssertEqual(changed, "wrong_key")
        let after = try await backup.state()
        XCTAssertEqual(after, .locked(version: "2", megolm: false, passphrase: nil))
        try await phone.signOut("PHONE", password: "secret")
        try await finish(alice, phone)
    }

    func testMegolmsBackupIsSharedAndOneOfAnotherKindIsLeftAlone() async throws {
        let alice = try await account("alice")
        let backup = alice.machine.backup()
        func make(_ algorithm: String, _ authData: Json) async throws -> BackupState {
            let request = try writeJson(["algorithm": algorithm, "auth_data": authData])
            let answer = try await alice.transport.exchange("POST", "/_matrix/client/v3/room_keys/version", request)
            XCTAssertEqual(answer.status, 200)
            try await backup.look()
            try await alice.machine.drive(alice.transport)
            return try await backup.state()
        }
        // The Matrix spec's example key, and its public key.
        let publicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo"
        let nothing: Json = [:]
        let megolm = try await make(
            "m.megolm_backup.v1.curve25519-aes-sha2", ["public_key": publicKey, "signatures": nothing])
        XCTAssertEqual(megolm, .locked(version: "1", megolm: true, passphrase: nil))
        let key = try RecoveryKey.parse(text: "EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d")
        try await backup.enable(key: key)
        try await alice.machine.drive(alice.transport)
        let (shared, secret) = (try await backup.state(), try await backup.secret())
        XCTAssertEqual(shared, .enabled(version: "1", megolm: true))
        XCTAssertEqual(secret?.name, "m.megolm_backup.v1")
        let newer = try await make("m.backup.of.tomorrow", nothing)
        XCTAssertEqual(newer, .unsupported(version: "2", algorithm: "m.backup.of.tomorrow"))
        let heard = try await Heard(alice.machine)
        try await backup.enable(key: key)
        try await alice.machine.drive(alice.transport)
        let code = try await heard.first { if case .backupFailed(let code, _) = $0 { code } else { nil } }
        XCTAssertEqual(code, "unsupported_backup")
        try await finish(alice)
    }

    func testARoomWhoseMessagesAreReadOnceIsInNoBackup() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let room = try bob.machine.room(roomId: roomId)
        try await fails("InvalidInput", "bad_settings") {
            try await room.setSettings(settings: RoomSettings(keepHistoryMs: 1, readOnce: true))
        }
        for settings in [RoomSettings(keepHistoryMs: 1_000), RoomSettings(readOnce: true)] {
            try await room.setSettings(settings: settings)
            let kept = try await room.settings()
            XCTAssertEqual(kept, settings)
        }
        try await bob.prepare(roomId)
        try await alice.settle()
        try await alice.send("once", to: roomId)
        let messages = try await bob.settle()
        XCTAssertEqual(try messages.map(text), ["once"])
        let event = try await bob.encryptedEvents(roomId).last ?? "none"
        try await fails("Rejected", "read_once") { try await room.decrypt(event: event) }
        try await finish(alice, bob)
    }

    func testAnEventThatShowsAMessageAgainIsRefused() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("pay Carol", to: roomId)
        let event = try await bob.encryptedEvents(roomId).last ?? "none"
        let room = try bob.machine.room(roomId: roomId)
        for _ in 0..<2 {
            let message = try await room.decrypt(event: event)
            XCTAssertEqual(try text(message), "pay Carol")
            XCTAssertFalse(message.isLate)
        }
        var again = try readJson(Data(event.utf8))
        again["event_id"] = "$another"
        let other = String(decoding: try writeJson(again), as: UTF8.self)
        try await fails("Rejected", "replayed") { try await room.decrypt(event: other) }
        try await finish(alice, bob)
    }
}
