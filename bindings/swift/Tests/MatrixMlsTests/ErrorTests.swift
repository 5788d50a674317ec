// Every variant of `MlsError`, caught by its type, with its code.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class ErrorTests: DirectoryTestCase {
    func testAWrongArgumentIsNamed() async throws {
        let machine = try await open(directory)
        let room = try machine.room(roomId: testRoomId)
        let other = directory.appendingPathComponent("other")
        func named(
            _ argument: String, _ code: String, line: UInt = #line, _ call: () async throws -> some Any
        ) async throws {
            let error = try await fails("InvalidInput", code, line: line, call)
            XCTAssertTrue(error.reason.contains(argument), "\(argument) in: \(error.reason)", line: line)
            XCTAssertFalse(error.retryable, line: line)
        }
        try await named("user_id", "bad_user_id") { try await MlsMachine.open(config: config(other, userId: "alice")) }
        try await named("device_id", "bad_device_id") { try await MlsMachine.open(config: config(other, deviceId: "")) }
        try await named("store_key", "bad_store_key") { try await open(other, .raw(key: Data(count: 31))) }
        try await named("store_key", "bad_store_key") { try await machine.changeStoreKey(newKey: .passphrase(passphrase: "")) }
        try await named("room_id", "bad_room_id") { try machine.room(roomId: "room") }
        try await named("user_ids", "bad_user_id") { try await room.setMembers(userIds: ["bob"]) }
        try await named("settings", "bad_settings") {
            try await room.enable(settings: RoomSettings(rotateAfterMessages: 0))
        }
        try await named("kept_epochs", "bad_settings") {
            try await room.setSettings(settings: RoomSettings(keptEpochs: .max))
        }
        try await named("content", "bad_content") { try await room.encrypt(eventType: "m.test", content: "[]") }
        try await named("event", "not_encrypted") {
            try await room.decrypt(event: #"{"type":"m.room.message","sender":"@a:b","content":{}}"#)
        }
        try await named("id", "bad_request_id") {
            try await machine.markRequestAsSent(id: "first", status: 200, body: Data())
        }
        try await named("status", "bad_status") {
            try await machine.markRequestAsSent(id: "1", answer: Answer(status: -1, body: Data()))
        }
        for body in ["[]", "{}", #"{"errcode":"M_UNKNOWN_TOKEN"}"#] {
            try await named("sync response", "bad_sync_response") {
                try syncChangesFromResponse(response: body, since: nil)
            }
            try await named("sync response", "bad_sync_response") {
                try SyncChanges.fromSyncResponse(body, since: "s1")
            }
            try await named("sliding sync response", "bad_sync_response") {
                try syncChangesFromSlidingSync(request: "{}", pos: nil, response: body)
            }
            try await named("sliding sync response", "bad_sync_response") {
                try SyncChanges.fromSlidingSync(request: "{}", pos: "1", response: body)
            }
        }
        try await named("sliding sync request", "bad_sync_request") {
            try SyncChanges.fromSlidingSync(request: #"{"lists":7}"#, pos: nil, response: #"{"pos":"1"}"#)
        }
        try await machine.shutdown()
    }

    func testWhatIsWrongWithAStoreIsTold() async throws {
        let machine = try await open(directory)
        try await fails("StoreInUse", "store_in_use") { try await open(self.directory) }
        try await machine.shutdown()
        try await fails("Closed", "closed") { try await machine.rooms() }
        try await fails("StoreWrongKey", "store_wrong_key") {
            try await open(self.directory, .passphrase(passphrase: "secret"))
        }
        try await fails("StoreIo", "store_missing") {
            try await MlsReader.open(storePath: self.directory.appendingPathComponent("none").path, storeKey: testKey)
        }
        let file = directory.appendingPathComponent("file")
        try Data(count: 3).write(to: file)
        try await fails("StoreIo", "store_io") { try await open(file) }

        let database = directory.appendingPathComponent("matrix-mls.db")
        let whole = try Data(contentsOf: database)
        // Bytes 60 to 63 of an SQLite file are its user version: here, the schema's.
        var newer = whole
        newer[63] = 99
        try newer.write(to: database)
        try await fails("StoreTooNew", "store_too_new") { try await open(self.directory) }
        try Data("no database at all".utf8).write(to: database)
        try await fails("StoreDamaged", "store_damaged") { try await open(self.directory) }
        try whole.write(to: database)
        try await open(directory).shutdown()
    }

    func testWhatIsWrongInARoomIsTold() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let (room, bobsRoom) = (try alice.machine.room(roomId: roomId), try bob.machine.room(roomId: roomId))
        try await fails("NotInGroup", "not_enabled") {
            try await alice.machine.room(roomId: "!other:example.org").members()
        }
        let tooMuch = String(decoding: try writeJson(["body": String(repeating: "x", count: 70_000)]), as: UTF8.self)
        try await fails("TooLarge", "too_large") {
            try await room.encrypt(eventType: "m.room.message", content: tooMuch)
        }

        try await room.rotateKeys()
        try await alice.send("in a new epoch", to: roomId)
        let sealed = try await alice.encryptedEvents(roomId).last ?? "none"
        let early = try await fails("UnknownEpoch", "unknown_epoch") { try await bobsRoom.decrypt(event: sealed) }
        XCTAssertTrue(early.retryable)
        let forged = try changing(sealed) { content in
            var bytes = Array(try content.text("ciphertext").utf8)
            bytes[100] = bytes[100] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
            content["ciphertext"] = String(decoding: bytes, as: UTF8.self)
        }
        try await fails("Rejected", "bad_message") { try await room.decrypt(event: forged) }
        let elsewhere = try changing(sealed) { content in
            content["ciphertext"] = ["url": "mxc://a/b", "size": 70_000, "sha256": "AAAA"] as Json
        }
        try await fails("Unsupported", "value_in_media") { try await room.decrypt(event: elsewhere) }
        try await finish(alice, bob)
    }

    private func changing(_ event: String, _ change: (inout Json) throws -> Void) throws -> String {
        var event = try readJson(Data(event.utf8))
        var content = event["content"] as? Json ?? [:]
        try change(&content)
        event["content"] = content
        return String(decoding: try writeJson(event), as: UTF8.self)
    }

    func testAMessageForAMemberWhoIsNotInTheGroupYetIsNotSealed() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        try await room.setMembers(userIds: [ownUserId, "@bob:example.org"])
        let error = try await fails("NotReady", "not_ready") {
            try await room.encrypt(eventType: "m.test", content: "{}")
        }
        XCTAssertTrue(error.retryable)
        // The homeserver is asked who is in the room, and does not say.
        guard case .waiting(let requests, _) = try await room.prepareToSend() else { return XCTFail("it is ready") }
        for request in requests {
            XCTAssertTrue(request.path.contains("/members"), request.path)
            let answer = Answer(status: 403, body: Data(#"{"errcode":"M_FORBIDDEN"}"#.utf8))
            try await machine.markRequestAsSent(id: request.id, answer: answer)
        }
        let unknown = try await fails("NotReady", "members_unknown") { try await room.prepareToSend() }
        XCTAssertTrue(unknown.retryable)
        try await fails("NotReady", "members_unknown") { try await machine.prepare(room, Accepting()) }
        try await fails("NotReady", "not_ready") { try await room.encrypt(eventType: "m.test", content: "{}") }
        let inGroup = try await room.members()
        XCTAssertEqual(inGroup.count, 1)
        try await machine.shutdown()
    }

    func testABadToDeviceEventFailsAlone() async throws {
        let machine = try await open(directory)
        let another = #"{"type":"m.dummy","sender":"@bob:example.org","content":{}}"#
        let changes = syncOf(toDevice: [another, "no JSON", another])
        let results = try await machine.receiveSync(changes: changes).toDevice
        XCTAssertEqual(results.count, 3)
        XCTAssertEqual([results[0], results[2]], [.ignored, .ignored])
        guard case .failed(let error) = results[1] else {
            return XCTFail("\(results)")
        }
        check(error, "Rejected", "malformed_event")
        try await machine.shutdown()
    }

    /// Also the variants that take a full disk or a defect to happen, and the list itself.
    func testEveryVariantHasCodeReasonAndRetryable() throws {
        let details = ErrorDetails(code: "a_code", reason: "a sentence", retryable: true)
        let made: [MlsError] = [
            .InvalidInput(details: details),
            .StoreWrongKey(details: details),
            .StoreDamaged(details: details),
            .StoreTooNew(details: details),
            .StoreFull(details: details),
            .StoreInUse(details: details),
            .StoreIo(details: details),
            .Closed(details: details),
            .Suspended(details: details),
            .Unauthorized(details: details),
            .NewDeviceNeeded(details: details),
            .NotInGroup(details: details),
            .NotReady(details: details),
            .UntrustedMembers(userIds: ["@bob:example.org"], details: details),
            .RoomReplaced(replacementRoomId: "!new:example.org", details: details),
            .TooLarge(details: details),
            .UnknownEpoch(details: details),
            .Forked(details: details),
            .Rejected(details: details),
            .Unsupported(details: details),
            .Internal(details: details),
        ]
        for made in made {
            let thrown: any Error = made
            do {
                throw thrown
            } catch let error as MlsError {
                check(error, variant(made), details.code)
                XCTAssertEqual(error.details(), details)
                XCTAssertEqual(error.reason, details.reason)
                XCTAssertTrue(error.retryable)
            }
            XCTAssertEqual(thrown.localizedDescription, details.reason)
            let cocoa = thrown as NSError
            XCTAssertEqual(cocoa.domain, "org.matrixmls.MlsError")
            XCTAssertEqual(cocoa.userInfo["code"] as? String, details.code)
        }
        XCTAssertEqual(made.map(variant), try listedErrors())
    }
}
