// Groups that fork, and devices that cannot go on by themselves: what an app sees of it, and that it has nothing to do
// but to go on.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class ForkTests: WatchedTestCase {
    private func texts(_ client: MatrixClient, _ roomId: String) async throws -> [String] {
        try await client.history(roomId).map { $0.text ?? "unread" }
    }

    /// Another device of this user, that knows of nothing but its own keys.
    private func laptop(_ client: MatrixClient) async throws -> MatrixClient {
        let laptop = try await anotherDevice(client, "LAPTOP")
        try await laptop.machine.drive(laptop.transport)
        return laptop
    }

    func testTwoCommitsAtOnceAreTwoBranchesAllIsReadAndTheRoomGoesOnWithOne() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let carol = try await account("carol")
        let roomId = try await roomOf(alice, bob)
        let heard = try await Heard(alice.machine)
        // Alice adds Carol, of whom Bob has not heard; Bob renews his keys twice.
        try await alice.invite(carol.userId, to: roomId)
        try await carol.join(roomId)
        try await alice.settle()
        try await alice.prepare(roomId)
        let first = try await head(alice, roomId)
        try await commit(bob, roomId)
        let other = try await head(bob, roomId)
        XCTAssertEqual(first.epoch, other.epoch)
        XCTAssertNotEqual(first.id, other.id)
        try await commit(bob, roomId)
        let longer = try await head(bob, roomId)
        for (name, client) in [("alice", alice), ("bob", bob)] {
            try await client.send("on the branch of \(name)", to: roomId)
        }

        try await settle(alice, bob)
        let epoch = try await heard.first { if case .forked(roomId, let epoch) = $0 { epoch } else { nil } }
        XCTAssertEqual(epoch, first.epoch)
        for client in [alice, bob] {
            let agreed = try await head(client, roomId)
            XCTAssertEqual(agreed.id, longer.id)
        }
        try await alice.send("together", to: roomId)
        try await settle(alice, bob, carol)
        let merge = try await head(alice, roomId)
        XCTAssertEqual(merge.parent, longer.id)
        XCTAssertEqual(merge.resolves, [first.id])
        XCTAssertEqual(merge.members, 3)
        for client in [bob, carol] {
            let agreed = try await head(client, roomId)
            XCTAssertEqual(agreed.id, merge.id)
        }
        for client in [alice, bob] {
            let read = try await texts(client, roomId)
            XCTAssertEqual(read, ["on the branch of alice", "on the branch of bob", "together"])
        }
        // Who was on one branch only reads that one.
        let read = try await texts(carol, roomId)
        XCTAssertEqual(read, ["on the branch of alice", "unread", "together"])
        try await finish(alice, bob, carol)
    }

    func testABranchThatCannotBeFollowedIsAnErrorOfItsEventsAndWhoeverWasOutrunJoinsAnew() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let heard = try await Heard(bob.machine)
        let room = try bob.machine.room(roomId: roomId)
        let before = try await room.settings()
        XCTAssertEqual(before, RoomSettings())
        let short = RoomSettings(keptEpochs: 0)
        try await room.setSettings(settings: short)
        let after = try await room.settings()
        XCTAssertEqual(after, short)
        // Bob goes on far enough to have let go of the epoch on which Alice commits; Alice goes further.
        for _ in 0..<2 { try await commit(bob, roomId) }
        for _ in 0..<3 { try await commit(alice, roomId) }
        let results = try await room.receiveEvents(events: try await bob.events(roomId))
        let errors = results.compactMap { if case .failed(let error) = $0.outcome { error } else { nil } }
        let forked = errors.filter { variant($0) == "Forked" }
        XCTAssertEqual(forked.count, 3, "\(results)")
        for fork in forked {
            check(fork, "Forked", "forked")
            XCTAssertFalse(fork.retryable)
        }
        let why = try await heard.first { if case .healing(roomId, let reason) = $0 { reason } else { nil } }

        try await bob.send("here again", to: roomId)
        let missed = try await heard.first {
            if case .epochsMissed(roomId, let first, let last) = $0 { (first, last) } else { nil }
        }
        let healed = try await heard.first { if case .healed(roomId, let reason) = $0 { reason } else { nil } }
        XCTAssertEqual(healed, why)
        try await settle(alice, bob)
        let read = try await texts(alice, roomId)
        XCTAssertTrue(read.contains("here again"), "\(read)")
        let joined = try await alice.machine.room(roomId: roomId).epochs().filter(\.isExternal)
        XCTAssertEqual(joined.map(\.creatorUserId), [bob.userId])
        XCTAssertEqual(joined.map(\.members), [2])
        XCTAssertEqual(joined.map { $0.epoch - 1 }, [missed.1])
        XCTAssertLessThanOrEqual(missed.0, missed.1)
        let ends = (try await head(alice, roomId), try await head(bob, roomId))
        XCTAssertEqual(ends.0.id, ends.1.id)
        try await finish(alice, bob)
    }

    func testADeviceJoinsWithNobodyOnlineByRequestsOfEveryKind() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let laptop = try await laptop(bob)
        let room = try laptop.machine.room(roomId: roomId)
        try await fails("NotInGroup", "not_enabled") { try await room.joinExternally() }
        // It has seen what room it is, and none of the commits: those it has to look for, as for who is in the room.
        let state = try await laptop.events(roomId).filter {
            let event = try readJson(Data($0.utf8))
            return event["state_key"] != nil && event["type"] as? String != "m.room.member"
        }
        _ = try await room.receiveEvents(events: state)
        try await room.joinExternally()
        let recording = Recording(laptop.transport)
        try await laptop.machine.prepare(room, recording)
        let seen = recording.exchanges.all.map(\.0)
        XCTAssertEqual(Set(seen.map(\.method)), ["GET", "POST", "PUT"])
        XCTAssertTrue(seen.contains { $0.path.contains("/members") }, "\(seen)")
        XCTAssertTrue(seen.allSatisfy { $0.body.isEmpty == ($0.method == "GET") }, "\(seen)")
        let (plan, end) = (try await room.prepareToSend(), try await head(laptop, roomId))
        XCTAssertEqual(plan, .ready)
        XCTAssertTrue(end.isExternal)
        XCTAssertEqual([end.creatorUserId, end.creatorDeviceId], [bob.userId, "LAPTOP"])
        XCTAssertEqual(end.members, 3)
        try await laptop.send("from the laptop", to: roomId)
        try await settle(alice, bob)
        for client in [alice, bob] {
            let read = try await texts(client, roomId)
            XCTAssertEqual(read, ["from the laptop"])
        }
        try await finish(alice, bob, laptop)
    }

    func testWhoHasNoGroupWhenItWantsToSendJoinsByItself() async throws {
        let (alice, carol) = (try await account("alice"), try await account("carol"))
        let roomId = try await alice.createRoom(invite: [])
        try await alice.settle()
        try await alice.enable(roomId)
        try await alice.prepare(roomId)
        try await alice.invite(carol.userId, to: roomId)
        try await carol.join(roomId)
        try await carol.settle()
        let heard = try await Heard(carol.machine)
        try await carol.send("hello", to: roomId)
        let joined = try await heard.first { if case .joined(let room, _) = $0 { room } else { nil } }
        XCTAssertEqual(joined, roomId)
        try await alice.settle()
        let read = try await texts(alice, roomId)
        XCTAssertEqual(read, ["hello"])
        try await finish(alice, carol)
    }

    func testWhereThereIsNothingToJoinThatIsToldAndTheRoomCanStillBeMadeOne() async throws {
        let alice = try await account("alice")
        let heard = try await Heard(alice.machine)
        let roomId = try await alice.createRoom(invite: [])
        try await alice.settle()
        try await alice.machine.room(roomId: roomId).joinExternally()
        try await alice.machine.drive(alice.transport)
        let failed = try await heard.first { if case .healingFailed(let room, _) = $0 { room } else { nil } }
        XCTAssertEqual(failed, roomId)
        let error = try await fails("NotInGroup", "cannot_heal") { try await alice.prepare(roomId) }
        XCTAssertTrue(error.retryable)
        try await alice.enable(roomId)
        try await alice.send("alone", to: roomId)
        let read = try await texts(alice, roomId)
        XCTAssertEqual(read, ["alone"])
        try await finish(alice)
    }

    func testACommitThatDoesNotFitTheRoomIsToldAndNothingIsSentToWhomItAdded() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let stranger = try await account("stranger")
        let roomId = try await roomOf(alice, bob)
        let heard = try await Heard(bob.machine)
        // Alice's homeserver and her app say that a stranger is in the room.
        let three = RoomChanges(roomId: roomId, limited: false, joinedCount: 3)
        _ = try await alice.machine.receiveSync(changes: syncOf(rooms: [three], connection: "of a liar"))
        let everybody = [alice.userId, bob.userId, stranger.userId]
        try await alice.machine.room(roomId: roomId).setMembers(userIds: everybody)
        try await alice.prepare(roomId)
        try await bob.settle()
        let (committer, doubts) = try await heard.first {
            if case .unfitCommit(roomId, let committer, let doubts) = $0 { (committer, doubts) } else { nil }
        }
        XCTAssertEqual(committer, MlsDevice(userId: alice.userId, deviceId: "PHONE"))
        XCTAssertEqual(doubts.count, 1)
        XCTAssertTrue(doubts[0].contains(stranger.userId), "\(doubts)")
        let unfit = try await head(bob, roomId)
        XCTAssertEqual(unfit.members, 3)
        XCTAssertEqual(unfit.doubts, doubts)
        try await bob.send("among us", to: roomId)
        let members = try await bob.machine.room(roomId: roomId).members()
        XCTAssertFalse(members.contains { $0.userId == stranger.userId })
        try await finish(alice, bob, stranger)
    }

    func testWhoeverMaySetTheRoomsStateStartsItAnewAndNobodyElse() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("in the old group", to: roomId)
        try await settle(alice, bob)
        let (atAlices, atBobs) = (try await Heard(alice.machine), try await Heard(bob.machine))
        try await bob.machine.room(roomId: roomId).restart()
        try await bob.settle()
        let code = try await atBobs.first {
            if case .requestRefused(.restart, roomId, let code, _) = $0 { code } else { nil }
        }
        XCTAssertEqual(code, "M_FORBIDDEN")
        try await bob.send("as before", to: roomId)
        try await settle(alice, bob)

        try await alice.machine.room(roomId: roomId).restart()
        try await alice.prepare(roomId)
        try await settle(alice, bob)
        for heard in [atAlices, atBobs] {
            let by = try await heard.first { if case .restarted(roomId, let by) = $0 { by } else { nil } }
            XCTAssertEqual(by, alice.userId)
        }
        let ends = (try await head(alice, roomId), try await head(bob, roomId))
        XCTAssertEqual(ends.0.id, ends.1.id)
        try await bob.send("in the new group", to: roomId)
        try await settle(alice, bob)
        for client in [alice, bob] {
            let read = try await texts(client, roomId)
            XCTAssertEqual(read, ["in the old group", "as before", "in the new group"])
        }
        try await finish(alice, bob)
    }

    func testARemovalOfWhoBelongsThereIsToldAndNobodyWaitsForThem() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let carol = try await account("carol")
        let roomId = try await roomOf(alice, bob)
        try await alice.invite(carol.userId, to: roomId)
        try await carol.join(roomId)
        try await alice.settle()
        try await alice.prepare(roomId)
        let heard = try await Heard(alice.machine)
        try await bob.settle()
        // Bob's homeserver and his app say that Carol is not in the room.
        let two = RoomChanges(roomId: roomId, limited: false, joinedCount: 2)
        _ = try await bob.machine.receiveSync(changes: syncOf(rooms: [two], connection: "of a liar"))
        try await bob.machine.room(roomId: roomId).setMembers(userIds: [alice.userId, bob.userId])
        try await bob.prepare(roomId)
        try await alice.settle()
        let told = try await heard.first {
            if case .addUndone(let room, let user, let device, let by, let after) = $0 {
                ([room, user, device], by, after)
            } else {
                nil
            }
        }
        XCTAssertEqual(told.0, [roomId, carol.userId, "PHONE"])
        XCTAssertEqual(told.1, MlsDevice(userId: bob.userId, deviceId: "PHONE"))
        XCTAssertEqual(told.2, 600_000)
        try await alice.send("without her for now", to: roomId)
        let members = try await alice.machine.room(roomId: roomId).members()
        XCTAssertFalse(members.contains { $0.userId == carol.userId })
        try await finish(alice, bob, carol)
    }
}
