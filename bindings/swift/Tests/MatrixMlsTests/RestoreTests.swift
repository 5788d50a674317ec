// History that comes back: from the backup, from a file, from who adds a device.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class RestoreTests: WatchedTestCase {
    private func texts(_ client: MatrixClient, _ roomId: String) async throws -> [String] {
        try await client.history(roomId).compactMap(\.text)
    }

    private func drive(_ client: MatrixClient) async throws {
        try await client.machine.drive(client.transport)
    }

    /// Says something in so many epochs.
    private func talk(_ client: MatrixClient, _ roomId: String, epochs: Int) async throws {
        for epoch in 0..<epochs {
            try await client.machine.room(roomId: roomId).rotateKeys()
            try await client.send("message \(epoch)", to: roomId)
        }
    }

    /// All that is heard of a restore.
    private func all(
        _ client: MatrixClient, _ key: RecoveryKey?, _ scope: RestoreScope = .allRooms
    ) async throws -> [Restoring] {
        let steps = try await client.machine.restoring(key, scope)
        try await drive(client)
        return await steps.reduce(into: []) { $0.append(bare($1)) }
    }

    /// Without the sentences.
    private func bare(_ failures: [HistoryFailure]) -> [HistoryFailure] {
        failures.map { HistoryFailure(code: $0.code, count: $0.count) }
    }

    private func bare(_ step: Restoring) -> Restoring {
        if case .finished(let epochs, let failures) = step { .finished(epochs: epochs, failures: bare(failures)) } else { step }
    }

    private func finished(_ epochs: UInt64, _ failures: [(String, UInt32)] = []) -> Restoring {
        .finished(epochs: epochs, failures: failures.map { HistoryFailure(code: $0.0, count: $0.1) })
    }

    func testANewPhoneShowsTheOldMessagesAndGoesOnTalking() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let key = try await alice.backUp()
        try await talk(alice, roomId, epochs: 3)
        try await bob.settle()
        try await bob.send("of Bob", to: roomId)
        try await alice.settle()
        let said = try await texts(alice, roomId)
        XCTAssertEqual(said.count, 4)

        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await phone.settle()
        let before = try await texts(phone, roomId)
        XCTAssertEqual(before, [])
        try await fails("InvalidInput", "recovery_key_length") { try await phone.restore(String(key.dropLast(5))) }
        let progress = Record<[UInt64]>()
        let restored = try await phone.restore(key) { progress.add([$0, $1]) }
        // The epochs, and the leaves of those with Alice alone and with both.
        XCTAssertEqual(restored.epochs, 6)
        XCTAssertEqual(restored.failures, [])
        XCTAssertEqual(progress.all.last, [8, 8])
        let after = try await texts(phone, roomId)
        XCTAssertEqual(after, said)
        try await phone.send("on the new phone", to: roomId)
        try await bob.settle()
        let read = try await texts(bob, roomId)
        XCTAssertEqual(read.last, "on the new phone")
        try await finish(alice, bob, phone)
    }

    func testAPassphraseBringsTheBackupBack() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("hello", to: roomId)
        let key = try await RecoveryKey.fromNewPassphrase(passphrase: "correct horse")
        try await alice.machine.backup().create(key: key, replace: false)
        try await drive(alice)
        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await phone.machine.backup().look()
        try await phone.settle()
        guard case .locked(_, false, let how?) = try await phone.machine.backup().state() else {
            return XCTFail("it is not said how the passphrase makes the key")
        }
        XCTAssertEqual(how.rounds, 500_000)
        let again = try await RecoveryKey.fromPassphrase(
            passphrase: "correct horse", salt: how.salt, rounds: how.rounds)
        let steps = try await all(phone, again)
        XCTAssertEqual(steps.last, finished(2))
        let read = try await texts(phone, roomId)
        XCTAssertEqual(read, ["hello"])
        try await finish(alice, bob, phone)
    }

    func testOneRoomOrWhatOneMessageNeeds() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let (roomId, other) = (try await roomOf(alice, bob), try await roomOf(alice, bob))
        for room in [roomId, other] { try await alice.send("in \(room)", to: room) }
        let key = try RecoveryKey.parse(text: try await alice.backUp())
        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await phone.settle()
        let backup = phone.machine.backup()
        try await fails("InvalidInput", "no_key") { try await backup.restore(key: nil, scope: .allRooms) }
        try await fails("InvalidInput", "no_key") { try await phone.machine.restoring() }
        try await backup.enable(key: key)
        let oneRoom = try await all(phone, key, .room(roomId: roomId))
        XCTAssertEqual(oneRoom.last, finished(2))
        let (read, unread) = (try await texts(phone, roomId), try await texts(phone, other))
        XCTAssertEqual(read, ["in \(roomId)"])
        XCTAssertEqual(unread, [])
        // With the key of the backup that is enabled by now.
        let event = try await phone.encryptedEvents(other).last ?? "none"
        let found = try await all(phone, nil, .message(event: event, roomId: other))
        guard case .finished(_, []) = found.last else { return XCTFail("\(found)") }
        let now = try await texts(phone, other)
        XCTAssertEqual(now, ["in \(other)"])
        var unknown = try readJson(Data(event.utf8))
        var content = unknown["content"] as? Json ?? [:]
        content["epoch_creator"] = ["@carol:example.org", "PHONE"]
        unknown["content"] = content
        let text = String(decoding: try writeJson(unknown), as: UTF8.self)
        let none = try await all(phone, nil, .message(event: text, roomId: other))
        XCTAssertEqual(none.last, finished(0, [("not_in_backup", 1)]))
        try await fails("InvalidInput", "bad_room_id") {
            try await backup.restore(key: nil, scope: .room(roomId: "room"))
        }
        try await fails("Rejected", "malformed_event") {
            try await backup.restore(key: nil, scope: .message(event: "{}", roomId: other))
        }
        try await finish(alice, bob, phone)
    }

    func testWhatWasTamperedWithIsLeftOutAndToldAndAWrongKeyRestoresNothing() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await talk(alice, roomId, epochs: 3)
        let text = try await alice.backUp()
        let path = "/_matrix/client/v3/room_keys/keys?version=1"
        var keys = try readJson(try await alice.transport.exchange("GET", path).body)
        var rooms = try XCTUnwrap(keys["rooms"] as? Json)
        var sessions = try XCTUnwrap((rooms[roomId] as? Json)?["sessions"] as? Json)
        let epochs = sessions.keys.filter { !$0.hasPrefix("leaves") }.sorted()
        sessions[epochs[1]] = sessions[epochs[2]]
        sessions[epochs[3]] = ["is_verified": true, "first_message_index": 0, "forwarded_count": 0, "session_data": 1]
        rooms[roomId] = ["sessions": sessions]
        keys["rooms"] = rooms
        _ = try await alice.transport.exchange("DELETE", path)
        _ = try await alice.transport.exchange("PUT", path, try writeJson(keys))
        let phone = try await anotherDevice(alice, "NEWPHONE")
        let nothing = try await all(phone, try RecoveryKey.generate())
        XCTAssertEqual(nothing.last, finished(0, [("wrong_key", 1)]))
        let heard = try await Heard(phone.machine)
        let restored = try await phone.restore(text)
        let failures = ["damaged_session", "malformed_session"].map { HistoryFailure(code: $0, count: 1) }
        XCTAssertEqual(bare(restored.failures), failures)
        XCTAssertEqual(restored.epochs, 3)
        let told = try await heard.first { if case .restoreFinished(_, 3, let told) = $0 { told } else { nil } }
        XCTAssertEqual(bare(told), failures)
        XCTAssertTrue(told.allSatisfy { $0.reason.hasPrefix("the session ") }, "\(told)")
        let total = try await heard.first { if case .restoreProgress(_, _, let total) = $0 { total } else { nil } }
        XCTAssertEqual(total, 7)
        try await finish(alice, bob, phone)
    }

    func testWhoStopsReadingStopsTheRestore() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("hello", to: roomId)
        let key = try RecoveryKey.parse(text: try await alice.backUp())
        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await phone.settle()
        let backup = phone.machine.backup()
        let stream = try await phone.machine.restoring(key)
        let reading = Task { await stream.reduce(into: []) { $0.append($1) } }
        let underWay = try await backup.restores()
        let id = try XCTUnwrap(underWay.first?.id)
        XCTAssertEqual(underWay.count, 1)
        // Whoever asks for the same hears of the same.
        let beside = try await phone.machine.restoring(key)
        reading.cancel()
        let heard = await beside.reduce(into: []) { $0.append(bare($1)) }
        XCTAssertEqual(heard, [.begun(id: id), finished(0, [("cancelled", 1)])])
        let read = await reading.value
        XCTAssertTrue(read.isEmpty || read == [.begun(id: id)], "\(read)")
        let (left, again) = (try await backup.restores(), try await backup.cancelRestore(id: id))
        XCTAssertEqual(left, [])
        XCTAssertFalse(again)
        try await drive(phone)
        let unread = try await texts(phone, roomId)
        XCTAssertEqual(unread, [])
        // So does letting go of it.
        for await step in try await phone.machine.restoring(key) {
            guard case .begun = step else { return XCTFail("\(step)") }
            break
        }
        try await until("the restore is stopped") { try await backup.restores().isEmpty }
        // Where nobody reads, it goes on.
        let other = try await backup.restore(key: key, scope: .allRooms)
        try await drive(phone)
        let running = try await backup.cancelRestore(id: other)
        XCTAssertFalse(running)
        let now = try await texts(phone, roomId)
        XCTAssertEqual(now, ["hello"])
        try await finish(alice, bob, phone)
    }

    func testARestoreOutlivesTheMachine() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("hello", to: roomId)
        let event = try await alice.encryptedEvents(roomId).last ?? "none"
        let key = try RecoveryKey.parse(text: try await alice.backUp())
        let phone = try await anotherDevice(alice, "NEWPHONE")
        let first = try await phone.machine.restoring(key)
        try await phone.close()
        let begun = await first.reduce(into: []) { $0.append($1) }
        XCTAssertEqual(begun.count, 1)
        let config = config(phone.store, userId: alice.userId, deviceId: "NEWPHONE")
        let (steps, message) = try await MlsMachine.with(config) { machine in
            let stream = try await machine.restoring(key)
            try await machine.drive(phone.transport)
            let steps = await stream.reduce(into: []) { $0.append($1) }
            return (steps, try await machine.room(roomId: roomId).decrypt(event: event))
        }
        XCTAssertEqual(steps.first, begun.first)
        XCTAssertEqual(steps.last, finished(2))
        XCTAssertEqual(try text(message), "hello")
        try await fails("Closed", "closed") { try await phone.machine.restoring(key) }
        try await finish(alice, bob)
    }

    func testAFileMovesHistoryWithoutAServer() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await talk(alice, roomId, epochs: 2)
        let backup = alice.machine.backup()
        let pass = "correct horse"
        let all = try await backup.exportHistory(roomIds: nil, passphrase: pass)
        let one = try await backup.exportHistory(roomIds: [roomId], passphrase: pass)
        try await fails("InvalidInput", "empty_passphrase") {
            try await backup.exportHistory(roomIds: nil, passphrase: "")
        }
        try await fails("InvalidInput", "bad_room_id") {
            try await backup.exportHistory(roomIds: ["room"], passphrase: "a")
        }
        let phone = try await anotherDevice(alice, "NEWPHONE")
        try await phone.settle()
        let files = phone.machine.backup()
        try await fails("InvalidInput", "wrong_passphrase") {
            try await files.importHistory(text: all, passphrase: "battery")
        }
        try await fails("InvalidInput", "bad_file") {
            try await files.importHistory(text: String(all.prefix(200)), passphrase: pass)
        }
        // The first byte says which form it has.
        var lines = all.components(separatedBy: "\n")
        lines[1] = "Ag" + lines[1].dropFirst(2)
        let newer = lines.joined(separator: "\n")
        try await fails("Unsupported", "file_version") {
            try await files.importHistory(text: newer, passphrase: pass)
        }
        let summary = try await files.importHistory(text: "Here it is:\r\n\(one)", passphrase: pass)
        XCTAssertEqual(summary, ImportSummary(epochs: 4, failures: []))
        let again = try await files.importHistory(text: all, passphrase: pass)
        XCTAssertEqual(again.epochs, 0)
        let read = try await texts(phone, roomId)
        XCTAssertEqual(read, ["message 0", "message 1"])
        try await finish(alice, bob, phone)
    }

    func testWhoComesLaterIsGivenWhatTheyMayRead() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let carol = try await account("carol")
        let roomId = try await roomOf(alice, bob)
        try await alice.machine.room(roomId: roomId).setSettings(settings: RoomSettings(shareHistory: true))
        try await talk(alice, roomId, epochs: 2)
        try await alice.invite(carol.userId, to: roomId)
        try await carol.join(roomId)
        try await alice.settle()
        try await alice.send("welcome", to: roomId)
        try await alice.settle()

        let heard = try await Heard(carol.machine)
        let body = try await carol.transport.exchange("GET", "/_matrix/client/v3/sync?timeout=0").body
        let changes = try SyncChanges.fromSyncResponse(String(decoding: body, as: UTF8.self), since: nil)
        func with(_ toDevice: [String]) -> SyncChanges {
            SyncChanges(
                connection: changes.connection, start: changes.start, nextBatch: changes.nextBatch,
                toDevice: toDevice, deviceLists: changes.deviceLists, oneTimeKeyCounts: changes.oneTimeKeyCounts,
                unusedFallbackKeyTypes: changes.unusedFallbackKeyTypes, followedRooms: changes.followedRooms,
                rooms: changes.rooms)
        }
        let offer = try XCTUnwrap(changes.toDevice.first { $0.contains("history") })
        // Somebody's that is none: what it names is fetched all the same, and then the right one finds it there.
        var forged = try readJson(Data(offer.utf8))
        var content = forged["content"] as? Json ?? [:]
        content["bundle_id"] = "AAAA"
        forged["content"] = content
        let welcome = changes.toDevice.filter { $0 != offer }
        let first = with(welcome + [String(decoding: try writeJson(forged), as: UTF8.self)])
        guard case .waiting(let error) = try await carol.machine.receiveSync(changes: first).toDevice.last else {
            return XCTFail("it does not wait")
        }
        // Who is in the room is said by the same sync.
        check(error, "UnknownEpoch", "value_in_media")
        XCTAssertTrue(error.retryable)
        try await drive(carol)
        let results = try await carol.machine.receiveSync(changes: with([offer])).toDevice
        XCTAssertEqual(results, [.historyShared(roomId: roomId)])
        let by = MlsDevice(userId: alice.userId, deviceId: "PHONE")
        let epochs = try await heard.first {
            if case .historyShared(roomId, by, let epochs) = $0 { epochs } else { nil }
        }
        XCTAssertGreaterThanOrEqual(epochs, 3)
        let history = try await carol.history(roomId)
        XCTAssertEqual(history.map(\.text), ["message 0", "message 1", "welcome"])
        XCTAssertEqual(history.map { $0.message?.sharedBy }, [by, by, nil])
        try await finish(alice, bob, carol)
    }
}
