// Messages through the generated code: what is in them, how many at once, and who else may read.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class MessageTests: WatchedTestCase {
    func testTwoMachinesOfOneProcessTalkAndTheRoomSaysWhoIsInIt() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("Hello, Bob", to: roomId)
        let message = try await bob.settle()[0]
        XCTAssertEqual(try text(message), "Hello, Bob")
        XCTAssertEqual([message.senderUserId, message.senderDeviceId], [alice.userId, "PHONE"])
        XCTAssertEqual(message.eventType, "m.room.message")
        try await bob.send("Hello, Alice", to: roomId)
        let answers = try await alice.settle()
        XCTAssertEqual(try answers.map(text).last, "Hello, Alice")

        let room = try alice.machine.room(roomId: roomId)
        XCTAssertEqual(room.roomId(), roomId)
        let (isEnabled, rooms, members) = (
            try await room.isEnabled(), try await alice.machine.rooms(), try await room.members()
        )
        XCTAssertTrue(isEnabled)
        XCTAssertEqual(rooms, [roomId])
        XCTAssertEqual(Set(members.map(\.userId)), [alice.userId, bob.userId])
        XCTAssertFalse(members.contains { $0.verdict == .conflicting })
        XCTAssertEqual(members.filter(\.isOwnDevice).map(\.userId), [alice.userId])
        let (epochs, plan) = (try await room.epochs(), try await room.prepareToSend())
        XCTAssertEqual(epochs.filter(\.isHead).count, 1)
        XCTAssertEqual(plan, .ready)

        let bobsRoom = try bob.machine.room(roomId: roomId)
        try await bobsRoom.leave()
        try await fails("NotInGroup", "left_group") { try await bobsRoom.members() }
        try await finish(alice, bob)
    }

    func testAnyTextSurvivesAndSoDoesALargeOne() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let texts = [
            "👩‍👩‍👧‍👦 🏳️‍🌈", "שלום עולם, مرحبا", "e\u{301}\u{323} ≠ \u{1EB9}\u{301}", "\u{0} and \u{1F}",
            "\"quoted\" \\ back\nslash\t", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\u{FEFF}marked", "", String(repeating: "x", count: 40_000),
        ]
        for text in texts {
            try await alice.send(text, to: roomId)
        }
        try await bob.settle()
        let read = try await bob.history(roomId).map { $0.text ?? "unreadable \($0.eventId)" }
        // Scalars, since strings that look the same are equal in Swift.
        XCTAssertEqual(read.map { Array($0.unicodeScalars) }, texts.map { Array($0.unicodeScalars) })
        try await finish(alice, bob)
    }

    func testAThousandOperationsAtOnceAllGetTheirOwnAnswer() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let (room, bobsRoom) = (try alice.machine.room(roomId: roomId), try bob.machine.room(roomId: roomId))
        let events = try await withThrowingTaskGroup(of: (Int, String)?.self) { group -> [(Int, String)] in
            for number in 0..<500 {
                group.addTask {
                    let content = try await alice.machine.encrypt(
                        in: room, eventType: "m.test", content: #"{"number":\#(number)}"#, transport: alice.transport)
                    return (number, try event(content, from: alice.userId))
                }
                group.addTask {
                    switch number % 5 {
                    case 0: guard try await room.members().count == 2 else { throw TestError("members") }
                    case 1: guard try await !room.epochs().isEmpty else { throw TestError("epochs") }
                    case 2: guard try await alice.machine.rooms() == [roomId] else { throw TestError("rooms") }
                    case 3: _ = try await alice.machine.outgoingRequests()
                    default: guard try await room.isEnabled() else { throw TestError("enabled") }
                    }
                    return nil
                }
            }
            var events: [(Int, String)] = []
            for try await case let event? in group {
                events.append(event)
            }
            return events
        }
        XCTAssertEqual(Set(events.map(\.0)), Set(0..<500))
        try await bob.settle()
        try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for (number, event) in events {
                group.addTask { (number, try await bobsRoom.decrypt(event: event).content) }
            }
            for try await (number, content) in group {
                XCTAssertEqual(content, #"{"number":\#(number)}"#)
            }
        }
        try await finish(alice, bob)
    }

    func testEventsCanBeFedByRoomInAnyOrderAndTwice() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("one", to: roomId)
        try await alice.machine.room(roomId: roomId).rotateKeys()
        try await alice.send("two", to: roomId)
        let events = try await alice.events(roomId)
        let room = try bob.machine.room(roomId: roomId)
        let early = try await room.receiveEvents(events: events.reversed()).map(\.outcome)
        XCTAssertTrue(early.contains(.state))
        XCTAssertTrue(early.contains(.commit(epoch: 2, added: [], removed: [])), "\(early)")
        let results = try await room.receiveEvents(events: events)
        XCTAssertEqual(results.count, events.count)
        let texts = try results.compactMap { result -> String? in
            if case .message(let message) = result.outcome { try text(message) } else { nil }
        }
        XCTAssertEqual(texts, ["one", "two"])
        try await finish(alice, bob)
    }

    func testWhatCannotBeReadSaysWhyAndCommitsAreToldFromMessages() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await commit(alice, roomId)
        try await alice.send("a message", to: roomId)
        try await settle(bob)
        let events = try await bob.events(roomId)
        let commit = try XCTUnwrap(events.last { isCommitEvent(event: $0) })
        let messages = try await bob.encryptedEvents(roomId)
        let message = try XCTUnwrap(messages.last)
        XCTAssertFalse(isCommitEvent(event: message))
        var redacted = try readJson(Data(message.utf8))
        let nothing: Json = [:]
        redacted["content"] = nothing
        let room = try bob.machine.room(roomId: roomId)
        for (event, cause, name) in [
            (commit, UnreadableCause.commit, "commit"),
            (String(decoding: try writeJson(redacted), as: UTF8.self), .redacted, "redacted"),
        ] {
            do {
                _ = try await room.decrypt(event: event)
                XCTFail("it was read: \(event)")
            } catch let error as MlsError {
                XCTAssertEqual(error.unreadableCause(), cause)
                XCTAssertEqual(unreadableCauseName(cause: cause), name)
            }
        }
        try await finish(alice, bob)
    }

    func testAReaderReadsBesideTheMachine() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("for the notification", to: roomId)
        let event = try await bob.encryptedEvents(roomId).last ?? "none"
        let reader = try await MlsReader.open(storePath: bob.store.path, storeKey: testKey)
        let beside = try await reader.decrypt(roomId: roomId, event: event)
        XCTAssertEqual(try text(beside), "for the notification")
        let error = try await fails("InvalidInput", "bad_room_id") {
            try await reader.decrypt(roomId: "room", event: event)
        }
        XCTAssertTrue(error.reason.contains("room_id"), error.reason)
        try await bob.close()
        let alone = try await reader.decrypt(roomId: roomId, event: event)
        XCTAssertEqual(alone, beside)
        try await fails("StoreWrongKey", "store_wrong_key") {
            try await MlsReader.open(storePath: bob.store.path, storeKey: .raw(key: Data(count: 32)))
        }
        try await finish(alice, bob)
    }

    func testAReaderReadsWhatTheMachineHasNotSyncedYet() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await bob.settle()
        try await commit(alice, roomId)
        try await alice.send("after a commit", to: roomId)
        let event = try await alice.encryptedEvents(roomId).last ?? "none"
        let reader = try await MlsReader.open(storePath: bob.store.path, storeKey: testKey)
        try await fails("UnknownEpoch", "unknown_epoch") { try await reader.decrypt(roomId: roomId, event: event) }
        let transport = bob.transport
        let message = try await reader.decrypt(roomId: roomId, event: event, transport: transport)
        XCTAssertEqual(try text(message), "after a commit")

        // The same by hand.
        let follower = try await reader.follow(roomId: roomId, event: event)
        guard case .send(let requests) = try await follower.nextStep() else { return XCTFail("it needs nothing") }
        let answer = try await transport.send(requests[0])
        try await follower.markRequestAsSent(
            id: requests[0].id, status: UInt16(answer.status), body: answer.body)
        guard case .read(let read) = try await follower.nextStep() else { return XCTFail("it needs more") }
        XCTAssertEqual(read, message)

        // Without a network it ends with a cause, and nothing is lost.
        try await fails("UnknownEpoch", "follow_no_answer") {
            try await reader.decrypt(roomId: roomId, event: event, transport: NoAnswer())
        }
        try await reader.suspend()
        try await fails("Suspended", "suspended") {
            try await reader.decrypt(roomId: roomId, event: event, transport: transport)
        }
        let synced = try await bob.settle()
        XCTAssertEqual(try synced.last.map(text), "after a commit")
        try await finish(alice, bob)
    }

    private struct NoAnswer: Transport {
        func send(_ request: OutgoingRequest) async throws -> Answer { throw CocoaError(.fileNoSuchFile) }
    }

    func testABindingIsToBeSignedBesideOlmAlone() async throws {
        let directory = try newDirectory()
        let machine = try await MlsMachine.open(
            config: MachineConfig(
                userId: ownUserId, deviceId: "PHONE", storePath: directory.path, storeKey: testKey,
                publishing: .besideOlm))
        let text = try await machine.bindingToSign()
        let object = try readJson(Data((text ?? "").utf8))
        XCTAssertEqual(Set(object.keys), ["type", "user_id", "device_id", "mls_key"])
        let key = Data(count: 32).base64EncodedString()
        let signature = Data(count: 64).base64EncodedString()
        for name in ["ed25519:PHONE", "ed25519:TABLET"] {
            let error = try await fails("InvalidInput", "bad_binding") {
                try await machine.bindDevice(deviceKey: key, signatures: [ownUserId: [name: signature]])
            }
            XCTAssertFalse(error.retryable)
        }
        let again = try await machine.bindingToSign()
        XCTAssertEqual(again, text, "nothing was taken")
        try await machine.shutdown()

        let client = try await account("alice")
        let alone = try await client.machine.bindingToSign()
        XCTAssertNil(alone)
        try await finish(client)
    }
}
