/// The sample app's model against a homeserver: what a person with two phones would try.

import Foundation
import MatrixMlsKeychain
import XCTest

@testable import MatrixMlsSampleModel

final class SampleModelTests: XCTestCase, @unchecked Sendable {
    func testTwoTalkBothWaysAndAgainAfterARestart() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            var alice = try await first.registered()
            let bob = try await second.registered()
            let roomId = try await twoInARoom(alice, bob)

            let sent = await alice.send("Hello, Bob 👋", to: roomId)
            XCTAssertTrue(sent, alice.state.problem ?? "")
            try await eventually(bob, shows: "Alice's text") { $0.texts(roomId) == ["Hello, Bob 👋"] }
            let answered = await bob.send("Hello, Alice", to: roomId)
            XCTAssertTrue(answered, bob.state.problem ?? "")
            let talk = ["Hello, Bob 👋", "Hello, Alice"]
            try await eventually(alice, shows: "both texts") { $0.texts(roomId) == talk }
            let row = try XCTUnwrap(bob.state.timelines[roomId]?.first)
            XCTAssertEqual(row.sender, alice.state.userId)
            XCTAssertEqual(row.senderDevice, alice.state.deviceId)
            XCTAssertNil(row.shield, "Alice has an identity, which has signed her device")

            let (userId, deviceId) = (alice.state.userId, alice.state.deviceId)
            await alice.close()
            XCTAssertEqual(alice.state, SampleState())
            alice = first.model()
            await alice.start()
            XCTAssertEqual(alice.state.phase, .running, alice.state.problem ?? "")
            XCTAssertEqual(alice.state.userId, userId)
            XCTAssertEqual(alice.state.deviceId, deviceId)
            XCTAssertEqual(alice.state.rooms.map(\.name), ["Tea"], "the room list survives the restart")
            await alice.openTimeline(roomId)
            XCTAssertEqual(alice.state.texts(roomId), talk)
            let again = await bob.send("Still there?", to: roomId)
            XCTAssertTrue(again, bob.state.problem ?? "")
            let whole = talk + ["Still there?"]
            try await eventually(alice, shows: "the text after the restart") { $0.texts(roomId) == whole }
            await alice.close()
            await bob.close()
        }
    }

    func testWhatComesWhileSuspendedIsReadAlsoPastTheSyncsLimit() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            let (alice, bob) = (try await first.registered(), try await second.registered())
            let roomId = try await twoInARoom(alice, bob)
            let greeted = await alice.send("before", to: roomId)
            XCTAssertTrue(greeted, alice.state.problem ?? "")
            try await eventually(bob, shows: "the first text") { $0.texts(roomId) == ["before"] }

            await bob.suspend()
            XCTAssertEqual(bob.state.connection, .idle)
            // A commit that Bob's next sync leaves out of the timeline, and texts that need it.
            try await XCTUnwrap(alice.account).machine.room(roomId: roomId).rotateKeys()
            let texts = (1...6).map { "text \($0)" }
            for text in texts {
                let sent = await alice.send(text, to: roomId)
                XCTAssertTrue(sent, alice.state.problem ?? "")
            }
            bob.timelineLimit = 2
            bob.resume()
            try await eventually(bob, shows: "all that was missed") { $0.texts(roomId) == ["before"] + texts }
            XCTAssertNil(bob.state.problem)
            await alice.close()
            await bob.close()
        }
    }

    func testAThirdWhoIsInvitedLaterReadsWhatIsSentFromThenOn() async throws {
        try await onMainActor {
            let phones = [Installation("alice"), Installation("bob"), Installation("carol")]
            defer { for phone in phones { phone.remove() } }
            let (alice, bob) = (try await phones[0].registered(), try await phones[1].registered())
            let carol = try await phones[2].registered()
            let roomId = try await twoInARoom(alice, bob)
            let first = await alice.send("only the two of us", to: roomId)
            XCTAssertTrue(first, alice.state.problem ?? "")
            await bob.invite(try XCTUnwrap(carol.state.userId), to: roomId)
            XCTAssertNil(bob.state.problem)
            try await eventually(carol, shows: "the invitation") {
                $0.rooms.contains { $0.id == roomId && $0.isInvitation }
            }
            await carol.join(roomId)
            try await eventually(carol, shows: "the room") { $0.rooms.contains { $0.id == roomId && !$0.isInvitation } }
            await carol.openTimeline(roomId)
            // What Bob sends before he knows that Carol is there is not for her.
            let carolId = try XCTUnwrap(carol.state.userId)
            try await eventually(bob, shows: "Carol in the room") { $0.has(carolId, in: roomId) }
            let late = await bob.send("the three of us", to: roomId)
            XCTAssertTrue(late, bob.state.problem ?? "")
            try await eventually(carol, shows: "Bob's text") { $0.texts(roomId) == ["the three of us"] }
            await carol.openTimeline(roomId)
            let rows = try XCTUnwrap(carol.state.timelines[roomId])
            let early = TimelineRow.Content.unreadable("You don't have access to messages sent before you joined.")
            XCTAssertEqual(rows.map(\.content), [early, .text("the three of us")])
            for model in [alice, bob, carol] { await model.close() }
        }
    }

    func testLoggingOutDeletesEverythingAndLoggingInIsANewDevice() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            let model = try await place.registered()
            let device = try XCTUnwrap(model.state.deviceId)
            await model.logOut()
            XCTAssertEqual(model.state.phase, .loggedOut)
            XCTAssertNil(model.state.problem)
            XCTAssertFalse(FileManager.default.fileExists(atPath: place.places.folder.path))
            XCTAssertNil(try place.vault.session())
            await model.logIn(homeserver: try homeserver(), user: place.user, password: place.password)
            XCTAssertEqual(model.state.phase, .running, model.state.problem ?? "")
            XCTAssertNotEqual(model.state.deviceId, device)
            await model.close()
        }
    }

    func testAWrongPasswordIsAProblemAndNotALogin() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            await (try await place.registered()).logOut()
            let model = place.model()
            await model.start()
            XCTAssertEqual(model.state.phase, .loggedOut)
            await model.logIn(homeserver: try homeserver(), user: place.user, password: "wrong")
            XCTAssertEqual(model.state.phase, .loggedOut)
            XCTAssertTrue(model.state.problem?.contains("M_FORBIDDEN") == true, model.state.problem ?? "no problem")
            XCTAssertNil(try place.vault.session())
            // The same person can try again.
            await model.logIn(homeserver: try homeserver(), user: place.user, password: place.password)
            XCTAssertEqual(model.state.phase, .running, model.state.problem ?? "")
            await model.close()
        }
    }

    func testADeviceThatTheHomeserverForgotGoesBackToTheLogin() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            let model = try await place.registered()
            try await XCTUnwrap(model.account).homeserver.logOut()
            try await eventually(model, shows: "the login") { $0.phase == .loggedOut && $0.problem != nil }
            XCTAssertNil(try place.vault.session())
        }
    }

    func testAWindowMayStartTheModelTwiceAndGoAwayMeanwhile() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            await (try await place.registered()).close()
            let model = place.model()
            async let first: Void = model.start()
            async let second: Void = model.start()
            async let away: Void = model.suspend()
            _ = await (first, second, away)
            XCTAssertEqual(model.state.phase, .running)
            XCTAssertNil(model.state.problem)
            XCTAssertEqual(model.state.connection, .idle, "a suspended app does not sync")
            // There is no news, which the homeserver says when the time is over.
            model.syncTimeoutMs = 1_000
            model.resume()
            try await eventually(model, shows: "being online") { $0.connection == .online }
            await model.close()
        }
    }

    func testASessionWithoutAStoreIsALeftoverOfADeletedApp() async throws {
        try await onMainActor {
            let place = Installation("alice")
            let model = try await place.registered()
            await model.close()
            place.remove()
            let next = place.model()
            await next.start()
            XCTAssertEqual(next.state.phase, .loggedOut)
            XCTAssertNil(try place.vault.session())
        }
    }

    func testAStoreThatDoesNotOpenIsAProblemUntilOneStartsOver() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            let model = try await place.registered()
            await model.close()
            let session = try XCTUnwrap(place.vault.session())
            try place.vault.storeKey(of: session).delete()
            let next = place.model()
            await next.start()
            XCTAssertEqual(next.state.phase, .starting)
            XCTAssertNotNil(next.state.problem)
            await next.startOver()
            XCTAssertEqual(next.state.phase, .loggedOut)
            XCTAssertNil(try place.vault.session())
        }
    }

    func testAHomeserverThatCannotBeReachedIsSaidAndSuspendingDoesNotWaitForIt() async throws {
        try await onMainActor {
            let place = Installation("alice")
            defer { place.remove() }
            let session = Session(
                homeserver: "http://127.0.0.1:9", userId: "@alice:example.org", deviceId: "PHONE", accessToken: "none")
            try place.vault.keep(session)
            try await Account.open(session, in: place.places, place.vault).machine.shutdown()
            let model = place.model()
            await model.start()
            try await eventually(model, shows: "being offline") {
                if case .offline = $0.connection { return true }
                return false
            }
            await model.suspend()
            XCTAssertEqual(model.state.connection, .idle)
            await model.close()
        }
    }

    func testASessionDoesNotPrintItsToken() {
        let session = Session(homeserver: "h", userId: "@a:b", deviceId: "C", accessToken: "secret")
        XCTAssertEqual("\(session)", "@a:b/C")
        XCTAssertEqual(String(reflecting: session), "@a:b/C")
    }
}
