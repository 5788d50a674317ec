/// Two people compare emojis in the sample app, and one of them gets another identity.

import XCTest

@testable import MatrixMlsSampleModel

final class TrustTests: XCTestCase, @unchecked Sendable {
    func testEmojisVerifyAndAnotherIdentityIsAChoice() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            let (alice, bob) = (try await first.registered(), try await second.registered())
            let bobId = try XCTUnwrap(bob.state.userId)
            try await compare(alice, bob)

            let created = await alice.createRoom(name: "Tea", invite: [bobId])
            let roomId = try XCTUnwrap(created, alice.state.problem ?? "")
            try await eventually(bob, shows: "the invitation") { $0.rooms.contains { $0.id == roomId } }
            await bob.join(roomId)
            try await eventually(alice, shows: "Bob in the room") { $0.has(bobId, in: roomId) }
            for model in [alice, bob] { await model.openTimeline(roomId) }
            let sent = await alice.send("to a verified Bob", to: roomId)
            XCTAssertTrue(sent, alice.state.problem ?? "")
            try await eventually(bob, shows: "Alice's text") { $0.texts(roomId) == ["to a verified Bob"] }
            let answered = await bob.send("from Bob", to: roomId)
            XCTAssertTrue(answered, bob.state.problem ?? "")
            try await eventually(alice, shows: "Bob's text") { $0.timelines[roomId]?.count == 2 }
            XCTAssertNil(alice.state.timelines[roomId]?.last?.shield)

            await bob.resetIdentity(password: second.password)
            XCTAssertNil(bob.state.problem)
            try await eventually(alice, shows: "that Bob is another") { $0.changedIdentities.map(\.id) == [bobId] }
            let changed = try XCTUnwrap(alice.state.changedIdentities.first)
            XCTAssertTrue(changed.wasVerified)
            XCTAssertEqual(changed.sentence, "You verified \(bobId), but their identity is another now.")
            // Once Bob's new identity has signed his device.
            let sentence = "You verified this user, but their identity is another now."
            try await eventually(alice, shows: "the shield") {
                $0.timelines[roomId]?.last?.shield?.sentence == sentence
            }
            XCTAssertEqual(alice.state.timelines[roomId]?.last?.shield?.isRed, true)
            let stopped = await alice.send("is it you?", to: roomId)
            XCTAssertFalse(stopped)
            XCTAssertTrue(alice.state.problem?.contains("identity_changed") == true, alice.state.problem ?? "none")

            await alice.accept(changed)
            XCTAssertEqual(alice.state.changedIdentities, [])
            let unverified = await alice.send("it is you", to: roomId)
            XCTAssertTrue(unverified, alice.state.problem ?? "")
            try await eventually(bob, shows: "what Alice says then") { $0.texts(roomId).last == "it is you" }

            try await compare(alice, bob)
            await bob.resetIdentity(password: second.password)
            try await eventually(alice, shows: "that Bob is another again") { !$0.changedIdentities.isEmpty }
            await alice.withdraw(try XCTUnwrap(alice.state.changedIdentities.first))
            XCTAssertEqual(alice.state.changedIdentities, [])
            let withdrawn = await alice.send("whoever you are", to: roomId)
            XCTAssertTrue(withdrawn, alice.state.problem ?? "")
            for model in [alice, bob] { await model.close() }
        }
    }

    @MainActor
    private func compare(_ alice: SampleModel, _ bob: SampleModel) async throws {
        await alice.verify(try XCTUnwrap(bob.state.userId))
        XCTAssertNil(alice.state.problem)
        try await eventually(bob, shows: "who asks") { $0.comparison?.isQuestion == true }
        await bob.answer(try XCTUnwrap(bob.state.comparison))
        for model in [alice, bob] {
            try await eventually(model, shows: "emojis") { $0.comparison?.shown?.count == 7 }
        }
        XCTAssertEqual(alice.state.comparison?.shown, bob.state.comparison?.shown)
        for model in [alice, bob] { await model.match(try XCTUnwrap(model.state.comparison)) }
        for model in [alice, bob] {
            try await eventually(model, shows: "the end") {
                if case .done(_, let isSigned) = $0.comparison?.state { return isSigned }
                return false
            }
            await model.leave(try XCTUnwrap(model.state.comparison))
            XCTAssertNil(model.state.comparison)
        }
    }
}
