/// Pushes, the way the extension handles them: the app's machine has written the store and still has it open, a reader
/// beside it decrypts what the homeserver gives for the event.

import Foundation
import MatrixMls
import MatrixMlsPush
import XCTest

@testable import MatrixMlsSampleModel

final class PushDecryptionTests: XCTestCase, @unchecked Sendable {
    @MainActor private let phone = Installation("bob")
    @MainActor private let friend = Installation("alice")

    override func tearDown() async throws {
        await phone.remove()
        await friend.remove()
    }

    /// What the extension does, with the keychain and the folder of an installation.
    @MainActor
    private func handler() -> PushHandler {
        let (places, vault) = (phone.places, phone.vault)
        return PushHandler(
            openReader: {
                let session = try XCTUnwrap(vault.session())
                return try await MlsReader.open(
                    storePath: places.store.path, storeKey: try vault.storeKey(of: session).read())
            },
            fetchEvent: { push in
                let session = try XCTUnwrap(vault.session())
                return try await Homeserver(session).event(push.eventId, in: push.roomId)
            },
            openTransport: { Homeserver(try XCTUnwrap(vault.session())).transport })
    }

    /// A homeserver that cannot be reached after the event was fetched.
    private struct NoNetwork: Transport {
        func send(_ request: OutgoingRequest) async throws -> Answer { throw CocoaError(.fileNoSuchFile) }
    }

    /// Sends a text and gives its event's id, which is what a push would name.
    @MainActor
    private func send(_ text: String, to roomId: String, from model: SampleModel) async throws -> String {
        let account = try XCTUnwrap(model.account)
        let content = try await account.encrypt(text, for: roomId)
        return try await account.homeserver.sendEncrypted(content, to: roomId, transactionId: UUID().uuidString)
    }

    func testTheReaderShowsWhatWasSaidAlsoWhereTheAppHasNotSyncedYet() async throws {
        try await onMainActor {
            let (bob, alice) = (try await phone.registered(), try await friend.registered())
            let bobId = try XCTUnwrap(bob.state.userId)
            let created = await alice.createRoom(name: "Tea", invite: [bobId])
            let roomId = try XCTUnwrap(created)
            try await eventually(bob, shows: "the invitation") { !$0.rooms.isEmpty }
            await bob.join(roomId)
            await bob.openTimeline(roomId)
            try await eventually(alice, shows: "Bob in the room") { $0.has(bobId, in: roomId) }
            _ = try await send("come in", to: roomId, from: alice)
            try await eventually(bob, shows: "the group") { $0.texts(roomId) == ["come in"] }

            // The app goes to the background with its store open; the next message comes as a push only.
            await bob.suspend()
            let eventId = try await send("the kettle is on", to: roomId, from: alice)
            let push = Push(roomId: roomId, eventId: eventId, roomName: "Tea", senderName: "Alice")
            let notice = await handler().notice(for: push)
            XCTAssertEqual(notice, .message(PushText(title: "Alice in Tea", body: "the kettle is on")))
            let again = await handler().notice(for: push)
            XCTAssertEqual(again, notice, "reading uses nothing up")

            // A new epoch, which the app has not synced.
            let before = try await commits(roomId, alice)
            try await XCTUnwrap(alice.account).machine.room(roomId: roomId).rotateKeys()
            let later = try await send("come now", to: roomId, from: alice)
            let laterPush = Push(roomId: roomId, eventId: later)
            let followed = await handler().notice(for: laterPush)
            XCTAssertEqual(followed.text?.body, "come now")

            // Without a network there is the generic text, and nothing is lost.
            let session = try XCTUnwrap(phone.vault.session())
            let storeKey = try phone.vault.storeKey(of: session).read()
            let reader = try await MlsReader.open(storePath: phone.places.store.path, storeKey: storeKey)
            let event = try await Homeserver(session).event(later, in: roomId)
            let decryptor = PushDecryptor(reader: reader, transport: NoNetwork())
            let unknown = await decryptor.notice(for: laterPush, event: event)
            let generic = PushText(title: "New message", body: "You have a new message")
            XCTAssertEqual(unknown, .generic(generic, because: .unknownEpoch(code: "follow_no_answer")))

            // The commit itself is an event that a push may name.
            let after = try await commits(roomId, alice)
            let commit = try XCTUnwrap(after.first { !before.contains($0) })
            let silent = await handler().notice(for: Push(roomId: roomId, eventId: commit))
            XCTAssertEqual(silent, .nothing)

            // Once the app has run, the reader knows as well. The app reads all of it too: the reader took nothing away.
            bob.resume()
            try await eventually(bob, shows: "all texts") {
                $0.texts(roomId) == ["come in", "the kettle is on", "come now"]
            }
            let known = await handler().notice(for: laterPush)
            XCTAssertEqual(known.text?.body, "come now")

            try await checkWhatCannotBeRead(roomId, eventId, alice)
            await alice.close()
            await bob.close()
        }
    }

    /// Events that are not what the push says are never shown.
    @MainActor
    private func checkWhatCannotBeRead(_ roomId: String, _ eventId: String, _ alice: SampleModel) async throws {
        let session = try XCTUnwrap(phone.vault.session())
        let storeKey = try phone.vault.storeKey(of: session).read()
        let reader = try await MlsReader.open(storePath: phone.places.store.path, storeKey: storeKey)
        let decryptor = PushDecryptor(reader: reader, transport: Homeserver(session).transport)
        let push = Push(roomId: roomId, eventId: eventId)
        let event = try await Homeserver(session).event(eventId, in: roomId)
        let whole = await decryptor.notice(for: push, event: event)
        XCTAssertEqual(whole.text?.body, "the kettle is on")

        let alices = try XCTUnwrap(alice.state.userId)
        let forgeries = [
            "another sender": event.replacingOccurrences(of: alices, with: session.userId),
            "no event": "{}",
            "no JSON": "",
            "plain text": #"{"type":"m.room.message","sender":"\#(alices)","content":{"body":"pay me"}}"#,
        ]
        for (what, forgery) in forgeries {
            let notice = await decryptor.notice(for: push, event: forgery)
            guard case .generic(let text, .mls) = notice else { return XCTFail("\(what): \(notice)") }
            XCTAssertEqual(text.body, "You have a new message", what)
        }
        let elsewhere = await decryptor.notice(for: Push(roomId: "!other:h", eventId: eventId), event: event)
        guard case .generic = elsewhere else { return XCTFail("another room: \(elsewhere)") }

        // An event that the homeserver does not have, as when it was deleted before the push arrived.
        let gone = await handler().notice(for: Push(roomId: roomId, eventId: "$gone"))
        guard case .generic(_, .unavailable("HomeserverError")) = gone else { return XCTFail("gone: \(gone)") }
    }

    /// The ids of the encrypted events of a room that are no messages.
    @MainActor
    private func commits(_ roomId: String, _ model: SampleModel) async throws -> [String] {
        try await XCTUnwrap(model.account).homeserver.newest(in: roomId).compactMap { json in
            guard let event = Event(json: json), event.type == "m.room.encrypted" else { return nil }
            return event.isEncryptedMessage ? nil : event.eventId
        }
    }
}
