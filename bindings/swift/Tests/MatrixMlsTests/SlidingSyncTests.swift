// Syncing as Element X does: a part of the rooms' events, hardly any members, and an encryption connection that begins
// anew at each start.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

/// The two sliding sync connections of an app (MSC4186), and what it keeps of them when it is closed.
private final class ElementX {
    private let client: MatrixClient
    private let members: [String]
    /// Where the room list goes on; kept.
    private var rooms: String?
    /// Where the encryption connection goes on; not kept.
    private var encryption: String?
    /// The to-device events that were seen; kept.
    private var toDevice: String?

    init(_ client: MatrixClient, members: [String] = ["$LAZY", "$ME"]) {
        self.client = client
        self.members = members
    }

    /// One sync of both. The encryption first: a Welcome explains what the rooms have.
    func sync() async throws -> (encryption: SyncChanges, rooms: SyncChanges) {
        let told = (encryption: try await syncEncryption(), rooms: try await syncRooms())
        for changes in [told.encryption, told.rooms] { _ = try await client.machine.receiveSync(changes: changes) }
        return told
    }

    /// The room list of an app whose machine does not hear of it.
    @discardableResult
    func syncRooms() async throws -> SyncChanges {
        let types = ["m.room.encryption", "m.room.create", "m.room.history_visibility"]
        let state = (types + ["org.matrix.msc2883.v1.dmls.restart"]).map { [$0, ""] }
        let list: Json = [
            "ranges": [[0, 19]], "timeline_limit": 1, "filters": [String: String](),
            "required_state": state + members.map { ["m.room.member", $0] },
        ]
        let (changes, _) = try await ask(["conn_id": "room-list", "lists": ["all_rooms": list]], rooms)
        rooms = changes.nextBatch
        return changes
    }

    private func syncEncryption() async throws -> SyncChanges {
        var events: Json = ["enabled": true]
        if let toDevice { events["since"] = toDevice }
        let extensions: Json = ["to_device": events, "e2ee": ["enabled": true]]
        let (changes, response) = try await ask(["conn_id": "encryption", "extensions": extensions], encryption)
        encryption = changes.nextBatch
        let answered = (response["extensions"] as? Json)?["to_device"] as? Json
        toDevice = try XCTUnwrap(answered).text("next_batch")
        return changes
    }

    private func ask(_ request: Json, _ pos: String?) async throws -> (SyncChanges, Json) {
        let query = pos.flatMap { $0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) }
        let path =
            "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0" + (query.map { "&pos=\($0)" } ?? "")
        let body = try writeJson(request)
        let answer = try await client.transport.exchange("POST", path, body)
        let response = String(decoding: answer.body, as: UTF8.self)
        guard answer.status == 200 else { throw TestError(response) }
        let changes = try SyncChanges.fromSlidingSync(
            request: String(decoding: body, as: UTF8.self), pos: pos, response: response)
        return (changes, try readJson(answer.body))
    }

    /// The app is closed and opened again.
    func restart() {
        encryption = nil
    }

    /// Syncs, and sends what the engine wants sent, until nothing is left and nothing new comes.
    func settle() async throws {
        while true {
            let sent = try await client.machine.drive(client.transport).accepted
            let told = try await sync()
            let isQuiet = [told.encryption, told.rooms].allSatisfy {
                $0.rooms.isEmpty && $0.toDevice.isEmpty && $0.deviceLists?.changed.isEmpty != false
            }
            if sent == 0 && isQuiet { return }
        }
    }
}

final class SlidingSyncTests: WatchedTestCase {
    /// Alice's app, which syncs like Element X, in a room of Bob's; who else is in it came before the first message.
    private func roomOfBobs(
        _ alice: MatrixClient, _ bob: MatrixClient, _ others: MatrixClient...
    ) async throws -> String {
        // Published, so that she can be added.
        try await alice.machine.drive(alice.transport)
        let roomId = try await bob.createRoom(invite: (others + [alice]).map(\.userId))
        for client in others + [alice] { try await client.join(roomId) }
        try await bob.settle()
        try await bob.enable(roomId)
        try await bob.send("first", to: roomId)
        for client in others { try await client.settle() }
        return roomId
    }

    private func users(_ client: MatrixClient, _ roomId: String) async throws -> Set<String> {
        Set(try await client.machine.room(roomId: roomId).members().map(\.userId))
    }

    private func head(_ client: MatrixClient, _ roomId: String) async throws -> String? {
        try await client.machine.room(roomId: roomId).epochs().first(where: \.isHead)?.id
    }

    /// Chatter that pushes what was before out of a timeline of one event.
    private func chatter(_ client: MatrixClient, _ roomId: String) async throws {
        for number in 0..<3 {
            let path = "/_matrix/client/v3/rooms/\(roomId)/send/m.room.message/\(UUID().uuidString)"
            let content = try writeJson(["msgtype": "m.notice", "body": "notice \(number)"])
            let answer = try await client.transport.exchange("PUT", path, content)
            XCTAssertEqual(answer.status, 200)
        }
    }

    /// The last message of a room as a client that syncs finds it.
    private func last(_ client: MatrixClient, _ roomId: String) async throws -> (event: String, text: String?) {
        try await client.settle()
        let event = try await client.encryptedEvents(roomId).last ?? "none"
        return (event, try await client.history(roomId).last?.text)
    }

    func testAMemberWhoLeftInAGapDoesNotRead() async throws {
        let (alice, bob) = (try await accountThatNeverSynced("alice"), try await account("bob"))
        let carol = try await account("carol")
        let roomId = try await roomOfBobs(alice, bob, carol)
        let app = ElementX(alice)
        try await app.settle()
        try await alice.send("with carol", to: roomId)
        try await app.settle()
        let before = try await users(alice, roomId)
        XCTAssertEqual(before, [alice.userId, bob.userId, carol.userId])
        try await bob.kick(carol.userId, from: roomId)
        try await chatter(bob, roomId)
        app.restart()
        let told = try await app.sync()
        XCTAssertEqual(told.encryption.connection, "encryption")
        XCTAssertEqual(told.encryption.start, .anew)
        XCTAssertEqual(told.rooms.connection, "room-list")
        XCTAssertEqual(told.rooms.followedRooms, .all)
        XCTAssertNotEqual(told.rooms.start, .anew)
        let changes = try XCTUnwrap(told.rooms.rooms.first)
        XCTAssertTrue(changes.limited)
        XCTAssertEqual(changes.timeline.count, 1)
        XCTAssertFalse((changes.timeline + changes.stateAfter).contains { $0.contains(carol.userId) }, "\(changes)")

        let room = try alice.machine.room(roomId: roomId)
        try await fails("NotReady", "not_ready") { try await room.encrypt(eventType: "m.room.message", content: "{}") }
        let recording = Recording(alice.transport)
        try await alice.machine.prepare(room, recording)
        let seen = recording.exchanges.all.map(\.0.path)
        XCTAssertTrue(seen.contains { $0.contains("/messages") }, "what the gap hides was asked for: \(seen)")
        let after = try await users(alice, roomId)
        XCTAssertEqual(after, [alice.userId, bob.userId])
        try await alice.send("among us", to: roomId)
        let read = try await last(bob, roomId)
        XCTAssertEqual(read.text, "among us")
        let carols = try carol.machine.room(roomId: roomId)
        try await fails("UnknownEpoch", "unknown_epoch") { try await carols.decrypt(event: read.event) }
        try await finish(alice, bob, carol)
    }

    func testNobodyIsRemovedBecauseNoMemberWasToldOf() async throws {
        for isKept in [false, true] {
            let (alice, bob) = (try await accountThatNeverSynced("alice"), try await account("bob"))
            let carol = try await account("carol")
            let roomId = try await roomOfBobs(alice, bob, carol)
            let app = ElementX(alice, members: [])
            // A position of the time before the app had this library.
            if isKept { try await app.syncRooms() }
            try await chatter(bob, roomId)
            let told = try await app.sync()
            let changes = try XCTUnwrap(told.rooms.rooms.first)
            XCTAssertFalse((changes.timeline + changes.stateAfter).contains { $0.contains("m.room.member") }, "\(changes)")
            // A room whose state was not shown is asked about.
            try await alice.machine.drive(alice.transport)
            let before = (try await users(alice, roomId), try await head(alice, roomId))
            XCTAssertEqual(before.0, [alice.userId, bob.userId, carol.userId])
            try await alice.send("to all", to: roomId)
            let after = (try await users(alice, roomId), try await head(alice, roomId))
            XCTAssertEqual(after.0, before.0)
            // The keys that came with the Welcome are renewed with the first message.
            let epochs = try await alice.machine.room(roomId: roomId).epochs()
            let made = try XCTUnwrap(epochs.first { $0.id == after.1 })
            XCTAssertEqual(made.parent, before.1, "there was nothing else to commit")
            XCTAssertEqual(made.creatorUserId, alice.userId)
            for client in [bob, carol] {
                let read = try await last(client, roomId)
                XCTAssertEqual(read.text, "to all")
            }
            try await finish(alice, bob, carol)
        }
    }

    func testADeviceThatWasLoggedOutWhileTheAppWasClosedDoesNotRead() async throws {
        let (alice, bob) = (try await accountThatNeverSynced("alice"), try await account("bob"))
        let laptop = try await anotherDevice(bob, "LAPTOP")
        try await laptop.settle()
        let roomId = try await roomOfBobs(alice, bob)
        let app = ElementX(alice)
        try await app.settle()
        try await alice.send("with the laptop", to: roomId)
        try await laptop.settle()
        let before = try await alice.machine.room(roomId: roomId).members()
        XCTAssertEqual(before.count, 3)
        try await bob.signOut("LAPTOP", password: "secret")
        app.restart()
        try await app.settle()
        try await alice.send("without it", to: roomId)
        let after = try await alice.machine.room(roomId: roomId).members()
        XCTAssertEqual(after.map(\.deviceId), ["PHONE", "PHONE"])
        let read = try await last(bob, roomId)
        XCTAssertEqual(read.text, "without it")
        let laptops = try laptop.machine.room(roomId: roomId)
        try await fails("UnknownEpoch", "unknown_epoch") { try await laptops.decrypt(event: read.event) }
        try await finish(alice, bob, laptop)
    }

    func testAnAppCanHaveAllAskedForAgain() async throws {
        let (alice, bob) = (try await accountThatNeverSynced("alice"), try await account("bob"))
        let roomId = try await roomOfBobs(alice, bob)
        try await ElementX(alice).settle()
        try await alice.prepare(roomId)
        let room = try alice.machine.room(roomId: roomId)
        let settled = try await room.prepareToSend()
        XCTAssertEqual(settled, .ready)
        try await room.doubtMembers()
        guard case .waiting(let requests, _) = try await room.prepareToSend() else { return XCTFail("it is ready") }
        XCTAssertEqual(requests.count, 1)
        XCTAssertTrue(requests.allSatisfy { $0.path.contains("/members") }, "\(requests)")
        try await alice.prepare(roomId)
        try await alice.machine.doubtDeviceLists()
        let waiting = try await alice.machine.outgoingRequests()
        XCTAssertTrue(waiting.contains { $0.path.hasSuffix("/keys/query") }, "\(waiting)")
        try await alice.send("all the same", to: roomId)
        try await finish(alice, bob)
    }
}
