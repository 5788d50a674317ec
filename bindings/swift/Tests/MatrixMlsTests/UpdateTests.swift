// What is told of rooms and devices, but for forks and healing (see ForkTests).

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

/// A homeserver with these members, that knows these devices, whose key packages are used up.
private struct WithDevices: Transport {
    let members: Data
    let devices: Data

    func send(_ request: OutgoingRequest) async throws -> Answer {
        if request.path.contains("/keys/query") { return Answer(status: 200, body: devices) }
        if request.path.contains("/members") { return Answer(status: 200, body: members) }
        if request.path.contains("/keys/claim") { return Answer(status: 200, body: Data(#"{"one_time_keys":{}}"#.utf8)) }
        return try await Accepting().send(request)
    }
}

final class UpdateTests: DirectoryTestCase {
    func testWhoComesAndGoesIsToldAlsoToWhomItConcerns() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let (alicesHeard, bobsHeard) = (try await Heard(alice.machine), try await Heard(bob.machine))
        let roomId = try await roomOf(alice, bob)
        let bobsDevice = MlsDevice(userId: bob.userId, deviceId: "PHONE")
        let came = try await alicesHeard.first {
            if case .epochChanged(roomId, let epoch, let added, []) = $0 { (epoch, added) } else { nil }
        }
        XCTAssertEqual(came.0, 1)
        XCTAssertEqual(came.1, [bobsDevice])
        try await alice.kick(bob.userId, from: roomId)
        try await alice.settle()
        try await alice.prepare(roomId)
        try await bob.settle()
        let left = try await bobsHeard.first { if case .removed(let room) = $0 { room } else { nil } }
        XCTAssertEqual(left, roomId)
        let went = try await alicesHeard.first {
            if case .epochChanged(roomId, _, [], let removed) = $0 { removed } else { nil }
        }
        XCTAssertEqual(went, [bobsDevice])
        try await finish(alice, bob)
    }

    func testDevicesThatCannotBeInAGroupAreToldAndHoldNothingUp() async throws {
        // Bob's device signs what it publishes and has no key package left; Carol's is none of MLS.
        let (bobId, carolId) = ("@bob:example.org", "@carol:example.org")
        let requests = try await MlsMachine.with(config(directory.appendingPathComponent("bob"), userId: bobId)) {
            let question = try await $0.outgoingRequests()[0]
            let nothing = Answer(status: 200, body: Data(#"{"device_keys":{}}"#.utf8))
            try await $0.markRequestAsSent(id: question.id, answer: nothing)
            return try await $0.outgoingRequests()
        }
        let bobs = try readJson(try XCTUnwrap(requests.first).body)["device_keys"] as? Json
        let nothing: Json = [:]
        let carols: Json = [
            "user_id": carolId, "device_id": "OLM", "algorithms": [], "keys": nothing, "signatures": nothing,
        ]
        let devices: Json = [bobId: ["PHONE": try XCTUnwrap(bobs)], carolId: ["OLM": carols]]
        let machine = try await open(directory.appendingPathComponent("alice"))
        let heard = try await Heard(machine)
        let room = try await machine.enableAlone()
        try await room.doubtMembers()
        let three = try members(ownUserId, bobId, carolId)
        try await machine.prepare(room, WithDevices(members: three, devices: try writeJson(["device_keys": devices])))
        let unreachable = try await heard.first {
            if case .deviceUnreachable(testRoomId, let user, let device) = $0 { [user, device] } else { nil }
        }
        XCTAssertEqual(unreachable, [bobId, "PHONE"])
        let rejected = try await heard.first {
            if case .deviceRejected(let user, let device, let code, _) = $0 { [user, device, code] } else { nil }
        }
        XCTAssertEqual(rejected, [carolId, "OLM", "no_credential"])
        let inGroup = try await room.members()
        XCTAssertEqual(inGroup.count, 1)
        try await machine.shutdown()
    }

    func testAnIdentityIsReadToldWhenItChangesAndAccepted() async throws {
        let bob = "@bob:example.org"
        let (first, second) = (String(repeating: "A", count: 43), String(repeating: "B", count: 42) + "A")
        let homeserver = WithIdentity(of: bob, members: try members(ownUserId, bob), master: first)
        let strict = config(directory.appendingPathComponent("alice"), memberPolicy: .crossSigned)
        let machine = try await MlsMachine.open(config: strict)
        let heard = try await Heard(machine)
        let room = try await machine.enableAlone()
        try await room.doubtMembers()
        try await machine.prepare(room, homeserver)
        let inGroup = try await room.members()
        XCTAssertEqual(inGroup.map(\.verdict), [.verified])
        let known = try await machine.userIdentity(userId: bob)
        XCTAssertEqual(known?.masterKey, first)
        XCTAssertEqual(known?.pinnedMasterKey, first)
        XCTAssertEqual(known?.hasChanged, false)
        homeserver.master = second
        try await machine.doubtDeviceLists()
        try await machine.prepare(room, homeserver)
        let changed = try await heard.first { if case .identityChanged(let user) = $0 { user } else { nil } }
        XCTAssertEqual(changed, bob)
        let told = try await machine.userIdentity(userId: bob)
        XCTAssertEqual(told?.hasChanged, true)
        try await machine.acceptIdentity(userId: bob, masterKey: second)
        let accepted = try await machine.userIdentity(userId: bob)
        XCTAssertEqual(accepted?.pinnedMasterKey, second)
        try await machine.shutdown()
    }

    func testWhenTooMuchWaitsThatIsTold() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.machine.room(roomId: roomId).rotateKeys()
        try await alice.send("too early", to: roomId)
        let sealed = try await alice.encryptedEvents(roomId).last ?? "none"
        let heard = try await Heard(bob.machine)
        // Together more than is kept, and none of them readable yet.
        let padding = String(repeating: "x", count: 8_500_000)
        let events = try (0..<2).map { number in
            var event = try readJson(Data(sealed.utf8))
            event["event_id"] = "$copy-\(number)"
            event["unsigned"] = ["padding": padding]
            return String(decoding: try writeJson(event), as: UTF8.self)
        }
        let results = try await bob.machine.room(roomId: roomId).receiveEvents(events: events)
        for result in results {
            guard case .waiting(let error) = result.outcome else { return XCTFail("\(result.outcome)") }
            check(error, "UnknownEpoch", "unknown_epoch")
        }
        let dropped = try await heard.first {
            if case .eventsDropped(roomId, let count) = $0 { count } else { nil }
        }
        XCTAssertEqual(dropped, 1)
        try await finish(alice, bob)
    }

    func testWhoeverWasAwayTellsHowFarItHasCome() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        XCTAssertEqual(RoomSettings().catchUpEvents, 100_000)
        XCTAssertFalse(RoomSettings().refuseLateMessages)
        for _ in 0..<100 { try await commit(alice, roomId) }
        try await alice.send("the last of it", to: roomId)
        let heard = try await Heard(bob.machine)
        let newest = try await alice.encryptedEvents(roomId).last ?? "none"
        _ = try await bob.machine.room(roomId: roomId).receiveEvents(events: [newest])
        try await settle(bob)
        let progress = try await heard.first {
            if case .catchingUp(roomId, let done, let total) = $0 { (done, total) } else { nil }
        }
        XCTAssertGreaterThan(progress.0, 0)
        XCTAssertGreaterThanOrEqual(progress.1 ?? 0, progress.0)
        let ends = (try await head(alice, roomId), try await head(bob, roomId))
        XCTAssertEqual(ends.0.id, ends.1.id)
        try await finish(alice, bob)
    }

    func testAClockThatIsOffIsToldAndThatItIsRightAgain() async throws {
        let machine = try await open(directory.appendingPathComponent("alice"))
        let heard = try await Heard(machine)
        let hour: Int64 = 3_600_000
        for hours: Int64 in [3, 0] {
            // By the homeserver's clock it took this device's message an hour ago.
            let homeserver = Int64(Date().timeIntervalSince1970 * 1000) - hours * hour
            let nothing: Json = [:]
            let stamp: Json = ["age": hour, "transaction_id": "one"]
            let event: Json = [
                "type": "m.room.message", "event_id": "$own", "sender": ownUserId, "content": nothing,
                "origin_server_ts": homeserver - hour, "unsigned": stamp,
            ]
            let room: Json = ["timeline": ["events": [event]]]
            let sync: Json = ["next_batch": "two", "rooms": ["join": [testRoomId: room]]]
            let body = String(decoding: try writeJson(sync), as: UTF8.self)
            _ = try await machine.receiveSync(changes: .fromSyncResponse(body, since: nil))
            let ahead = try await heard.first {
                if case .clockOff(let aheadMs) = $0, aheadMs / hour == hours { aheadMs } else { nil }
            }
            XCTAssertEqual(ahead / hour, hours)
        }
        try await machine.shutdown()
    }
}
