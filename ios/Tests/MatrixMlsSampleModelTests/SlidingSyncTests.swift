/// Where the two sync connections go on: after a restart, after the homeserver has forgotten one, and when there are more
/// rooms than were asked for.

import XCTest

@testable import MatrixMlsSampleModel

final class SlidingSyncTests: XCTestCase, @unchecked Sendable {
    func testARestartGoesOnInTheRoomListAndBeginsAnewWithTheKeys() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            let alice = try await first.registered()
            var bob = try await second.registered()
            let roomId = try await twoInARoom(alice, bob)
            let sent = await alice.send("before", to: roomId)
            XCTAssertTrue(sent, alice.state.problem ?? "")
            try await eventually(bob, shows: "the text") { $0.texts(roomId) == ["before"] }
            XCTAssertNotNil(bob.encryptionPos)
            await bob.close()
            let kept = try second.places.readProgress()
            XCTAssertNotNil(kept.roomListPos)
            XCTAssertNotNil(kept.toDeviceSince)

            let whileClosed = await alice.send("while closed", to: roomId)
            XCTAssertTrue(whileClosed, alice.state.problem ?? "")
            bob = second.model()
            await bob.start()
            XCTAssertNil(bob.encryptionPos)
            XCTAssertEqual(bob.progress, kept)
            await bob.openTimeline(roomId)
            try await eventually(bob, shows: "both texts") { $0.texts(roomId) == ["before", "while closed"] }
            let answered = await bob.send("I am back", to: roomId)
            XCTAssertTrue(answered, bob.state.problem ?? "")
            for model in [alice, bob] { await model.close() }
        }
    }

    func testAConnectionThatTheHomeserverHasForgottenBeginsAnew() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            let alice = try await first.registered()
            var bob = try await second.registered()
            let roomId = try await twoInARoom(alice, bob)
            await bob.close()
            var kept = try second.places.readProgress()
            kept.roomListPos = "987654321/s1"
            try second.places.write(kept)
            bob = second.model()
            await bob.start()
            bob.encryptionPos = "987654321/s1"
            await bob.openTimeline(roomId)
            let sent = await alice.send("still there?", to: roomId)
            XCTAssertTrue(sent, alice.state.problem ?? "")
            try await eventually(bob, shows: "the text") { $0.texts(roomId) == ["still there?"] }
            XCTAssertEqual(bob.state.rooms.map(\.name), ["Tea"])
            XCTAssertNil(bob.state.problem)
            XCTAssertNotEqual(try second.places.readProgress().roomListPos, kept.roomListPos)
            for model in [alice, bob] { await model.close() }
        }
    }

    func testTheListGrowsUntilItHasAllRoomsAndLosesThoseThatWereLeft() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            let model = try await place.registered()
            await model.suspend()
            for name in ["Tea", "Cake", "Milk"] { await model.createRoom(name: name) }
            model.roomWindow = 1
            model.resume()
            try await eventually(model, shows: "all rooms") { $0.rooms.map(\.name) == ["Cake", "Milk", "Tea"] }
            XCTAssertEqual(model.roomWindow, 3)
            let milk = try XCTUnwrap(model.state.rooms.first { $0.name == "Milk" })
            XCTAssertEqual(milk.joinedCount, 1)
            let path = "/_matrix/client/v3/rooms/\(milk.id)/leave"
            let left = try await XCTUnwrap(model.account).homeserver.transport.exchange("POST", path, Data("{}".utf8))
            XCTAssertEqual(left.status, 200)
            try await eventually(model, shows: "the others") { $0.rooms.map(\.name) == ["Cake", "Tea"] }
            await model.close()
        }
    }
}
