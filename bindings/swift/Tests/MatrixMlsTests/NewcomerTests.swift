// The mistakes of somebody who tries the library for the first time: each has a sentence that says what to do.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class NewcomerTests: DirectoryTestCase {
    /// The call fails with this code, and the sentence names what to do.
    @discardableResult
    private func says<R>(
        _ variant: String, _ code: String, _ whatToDo: String, line: UInt = #line, _ call: () async throws -> R
    ) async throws -> MlsError {
        let error = try await fails(variant, code, line: line, call)
        XCTAssertTrue(error.reason.contains(whatToDo), error.reason, line: line)
        XCTAssertEqual(error.localizedDescription, error.reason, line: line)
        return error
    }

    func testAWrongStoreKeyNamesTheRightOne() async throws {
        try await open(directory).shutdown()
        try await says("StoreWrongKey", "store_wrong_key", "give the key or passphrase") {
            try await open(self.directory, .raw(key: Data(repeating: 8, count: 32)))
        }
    }

    func testAWrongUserIdShowsTheFormOfOne() async throws {
        try await says("InvalidInput", "bad_user_id", "@alice:example.org") {
            try await MlsMachine.open(config: config(self.directory, userId: "alice"))
        }
    }

    func testEncryptingBeforePreparingNamesTheCall() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        try await room.setMembers(userIds: [ownUserId, "@bob:example.org"])
        let error = try await says("NotReady", "not_ready", "call prepareToSend") {
            try await room.encrypt(eventType: "m.room.message", content: "{}")
        }
        XCTAssertTrue(error.retryable)
        try await machine.shutdown()
    }

    func testABodyThatIsNoSyncSaysWhatToPassIn() async throws {
        for garbage in ["", "<html>", "{}", #"{"errcode":"M_UNKNOWN_TOKEN"}"#] {
            try await says("InvalidInput", "bad_sync_response", "pass in the body of a sync") {
                try SyncChanges.fromSyncResponse(garbage, since: nil)
            }
        }
    }

    func testRequestsThatAreNeverMarkedAreWarnedOf() async throws {
        let lines = Lines()
        try setLogSink(level: .warn, sink: lines)
        let machine = try await open(directory)
        for _ in 0..<6 { _ = try await machine.outgoingRequests() }
        try setLogSink(level: .warn, sink: nil)
        XCTAssertTrue(lines.all.all.contains { $0.contains("call markRequestAsSent") }, "\(lines.all.all)")
        try await machine.shutdown()
    }

    func testASecondMachineOnOneStoreIsToldToShareTheFirst() async throws {
        let machine = try await open(directory)
        try await says("StoreInUse", "store_in_use", "close the machine that has it open") {
            try await open(self.directory)
        }
        try await says("StoreInUse", "store_in_use", "close the machine") {
            try await wipeStore(storePath: self.directory.path)
        }
        try await machine.shutdown()
    }

    func testAfterShutdownEachCallSaysToOpenItAgain() async throws {
        let machine = try await open(directory)
        let room = try machine.room(roomId: testRoomId)
        try await machine.shutdown()
        try await machine.shutdown()
        let calls: [() async throws -> Void] = [
            { _ = try await machine.rooms() },
            { _ = try await machine.outgoingRequests() },
            { _ = try await machine.drive(Accepting()) },
            { _ = try await room.isEnabled() },
            { _ = try await room.encrypt(eventType: "m.room.message", content: "{}") },
            { _ = try await machine.backup().state() },
        ]
        for call in calls {
            try await says("Closed", "closed", "open it again") { try await call() }
        }
    }

    func testARoomThatWasNotEnabledSaysToEnableIt() async throws {
        let machine = try await open(directory)
        try await machine.drive(Accepting())
        let room = try machine.room(roomId: testRoomId)
        let calls: [() async throws -> Void] = [
            { _ = try await room.prepareToSend() },
            { _ = try await room.encrypt(eventType: "m.room.message", content: "{}") },
            { _ = try await room.members() },
        ]
        for call in calls {
            let error = try await says("NotInGroup", "not_enabled", "call enable") { try await call() }
            XCTAssertFalse(error.retryable)
        }
        try await machine.shutdown()
    }

    func testAMegolmEventAndAMegolmRoomBelongToAnotherEngine() async throws {
        let machine = try await open(directory)
        let room = try machine.room(roomId: testRoomId)
        let megolm = "m.megolm.v1.aes-sha2"
        let encryption: Json = [
            "type": "m.room.encryption", "state_key": "", "sender": ownUserId, "event_id": "$encryption",
            "content": ["algorithm": megolm],
        ]
        _ = try await room.receiveEvents(events: [String(decoding: try writeJson(encryption), as: UTF8.self)])
        let event: Json = [
            "type": "m.room.encrypted", "sender": "@bob:example.org", "event_id": "$a",
            "content": ["algorithm": megolm, "ciphertext": "AwgA"],
        ]
        let text = String(decoding: try writeJson(event), as: UTF8.self)
        try await says("InvalidInput", "not_mls", "the Olm machine") { try await room.decrypt(event: text) }
        try await says("InvalidInput", "other_algorithm", "create a new room") {
            try await room.encrypt(eventType: "m.room.message", content: "{}")
        }
        try await says("InvalidInput", "other_algorithm", "create a new room") {
            try await room.enable(settings: RoomSettings())
        }
        try await machine.shutdown()
    }

    func testAMistypedAndAWrongRecoveryKeySayWhatToType() async throws {
        let alice = try await account("alice")
        let text = try await alice.backUp().filter { $0 != " " }
        let at = text.index(text.startIndex, offsetBy: 20)
        let mistyped = text.replacingCharacters(in: at...at, with: text[at] == "A" ? "B" : "A")
        try await says("InvalidInput", "recovery_key_parity", "compare the key") { try RecoveryKey.parse(text: mistyped) }
        try await says("InvalidInput", "recovery_key_length", "none is missing") {
            try RecoveryKey.parse(text: String(text.dropFirst()))
        }
        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await says("InvalidInput", "wrong_key", "type the recovery key of the current backup") {
            try await phone.machine.restoreBackup(phone.transport, key: try RecoveryKey.generate())
        }
        try await finish(alice, phone)
    }

    func testWipingDeletesEveryFileOfAStoreAndNothingElse() async throws {
        let (store, other) = (directory.appendingPathComponent("store"), directory.appendingPathComponent("other"))
        let first = try await open(store)
        _ = try await first.enableAlone()
        try await first.shutdown()
        try await wipeStore(storePath: store.path)
        XCTAssertFalse(FileManager.default.fileExists(atPath: store.path))
        try await wipeStore(storePath: store.path)

        let machine = try await open(other)
        _ = try await machine.enableAlone()
        try Data("stays".utf8).write(to: other.appendingPathComponent("of-the-app"))
        try await machine.wipe()
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: other.path), ["of-the-app"])
        try await says("Closed", "closed", "open it again") { try await machine.rooms() }
        // What comes next knows nothing of it.
        let next = try await open(other, .unprotected)
        let rooms = try await next.rooms()
        XCTAssertEqual(rooms, [])
        try await next.shutdown()
    }

    func testANewRoomIsEncryptedFromItsFirstEventOn() throws {
        let body = try readJson(Data(try createRoomBody(request: #"{"name":"a room"}"#).utf8))
        XCTAssertEqual(body["name"] as? String, "a room")
        let state = try XCTUnwrap((body["initial_state"] as? [Json])?.first)
        XCTAssertEqual(state["type"] as? String, "m.room.encryption")
        let algorithm = (state["content"] as? Json)?["algorithm"] as? String
        let created = (body["creation_content"] as? Json)?["encryption"] as? Json
        XCTAssertEqual(created?["algorithm"] as? String, try XCTUnwrap(algorithm))
    }

    func testSettingsAreChangedOneByOne() {
        var settings = RoomSettings()
        settings.keepHistory = 30 * 24 * 3_600
        settings.rotateAfterMessages = 7
        XCTAssertEqual(settings, RoomSettings(rotateAfterMessages: 7, keepHistoryMs: 2_592_000_000))
        settings.keepHistory = nil
        settings.keptFor = 1.5
        settings.rotateAfter = -1
        XCTAssertEqual([settings.keptForMs, settings.rotateAfterMs], [1_500, 0])
        XCTAssertEqual([settings.keptFor, settings.rotateAfter], [1.5, 0])
        XCTAssertNil(settings.keepHistory)
        settings.keptFor = .infinity
        XCTAssertEqual(settings.keptForMs, .max)
    }
}

/// Remembers log lines.
final class Lines: LogSink {
    let all = Record<String>()

    func onLog(level: LogLevel, target: String, message: String) {
        all.add(message)
    }
}
