/// What notifications say, and what they say when something is wrong.

import Foundation
import MatrixMls
import XCTest

@testable import MatrixMlsPush

final class PushWordsTests: XCTestCase, @unchecked Sendable {
    private let push = Push(roomId: "!room:example.org", eventId: "$event")

    private func message(
        _ content: String, type: String = "m.room.message", verdict: Verdict = .ownerNotVerified
    ) -> DecryptedMessage {
        DecryptedMessage(
            eventId: "$event", senderUserId: "@alice:example.org", senderDeviceId: "PHONE", verdict: verdict,
            eventType: type, content: content, epoch: 3, sharedBy: nil, isLate: false)
    }

    private func body(_ content: String, type: String = "m.room.message") -> String? {
        guard case .message(let text) = PushWords().notice(push, message(content, type: type)) else { return nil }
        return text.body
    }

    func testAPushIsReadFromItsUserInfo() {
        let userInfo: [AnyHashable: Any] = [
            "aps": ["mutable-content": 1], "room_id": "!r:h", "event_id": "$e", "room_name": "Tea",
            "sender_display_name": "Alice", "unread_count": 2,
        ]
        let expected = Push(roomId: "!r:h", eventId: "$e", roomName: "Tea", senderName: "Alice")
        XCTAssertEqual(Push(userInfo: userInfo), expected)
        XCTAssertEqual(Push(userInfo: ["room_id": "!r:h", "event_id": "$e"]), Push(roomId: "!r:h", eventId: "$e"))
        for bad: [AnyHashable: Any] in [
            [:], ["room_id": "!r:h"], ["event_id": "$e"], ["room_id": "", "event_id": "$e"],
            ["room_id": 1, "event_id": "$e"],
        ] {
            XCTAssertNil(Push(userInfo: bad), "\(bad)")
        }
    }

    func testTheTitleIsWhoAndWhereAsFarAsKnown() {
        func title(_ sender: String?, _ room: String?) -> String? {
            let push = Push(roomId: "!r:h", eventId: "$e", roomName: room, senderName: sender)
            return PushWords().notice(push, message(#"{"msgtype":"m.text","body":"x"}"#)).text?.title
        }
        XCTAssertEqual(title("Alice", "Tea"), "Alice in Tea")
        XCTAssertEqual(title("Alice", nil), "Alice")
        XCTAssertEqual(title("Alice", "Alice"), "Alice", "a room of two is often called as the other")
        XCTAssertEqual(title(nil, "Tea"), "@alice:example.org in Tea", "who sealed it stands in for the name")
        XCTAssertEqual(title(nil, nil), "@alice:example.org")
    }

    func testTheBodyIsTheTextOrWhatElseWasSent() {
        XCTAssertEqual(body(#"{"msgtype":"m.text","body":"Tea? 🍵"}"#), "Tea? 🍵")
        XCTAssertEqual(body(#"{"msgtype":"m.image","body":"IMG_0001.jpg"}"#), "sent a picture")
        XCTAssertEqual(body(#"{"msgtype":"m.text","body":"\#(String(repeating: "é", count: 900))"}"#)?.count, 500)
    }

    func testAnEditSaysWhatIsNew() {
        let edit = #"{"msgtype":"m.text","body":"* Tea at five","m.new_content":{"msgtype":"m.text","body":"Tea at five"}}"#
        XCTAssertEqual(body(edit), "Tea at five")
        let picture = #"{"msgtype":"m.text","body":"* x","m.new_content":{"msgtype":"m.image","body":"x"}}"#
        XCTAssertEqual(body(picture), "sent a picture")
    }

    func testOtherEventsHaveWordsToo() {
        let reaction = #"{"m.relates_to":{"rel_type":"m.annotation","event_id":"$e","key":"👍"}}"#
        XCTAssertEqual(body(reaction, type: "m.reaction"), "reacted with 👍")
        for (type, words) in [
            ("m.sticker", "sent a sticker"), ("m.poll.start", "started a poll"),
            ("org.matrix.msc3381.poll.start", "started a poll"), ("m.poll.response", "voted in a poll"),
            ("m.poll.end", "ended a poll"), ("m.call.invite", "is calling"), ("m.rtc.notification", "is calling"),
        ] {
            XCTAssertEqual(body("{}", type: type), words, type)
        }
    }

    func testContentThatSaysNothingIsGeneric() {
        for content in ["{}", #"{"body":""}"#, #"{"body":7}"#, "[]", "no json"] {
            XCTAssertNil(body(content), content)
        }
        let text = PushText(title: "New message", body: "You have a new message")
        for (type, content) in [("m.reaction", "{}"), ("m.reaction", #"{"m.relates_to":{"key":""}}"#), ("org.example.x", "{}")] {
            let notice = PushWords().notice(push, message(content, type: type))
            XCTAssertEqual(notice, .generic(text, because: .unexpected("the type \(type)")), content)
        }
    }

    func testAMessageOfASenderWhoseKeysConflictIsNotShown() {
        let content = #"{"msgtype":"m.text","body":"pay me"}"#
        for (verdict, isShown) in [(Verdict.verified, true), (.unknownDevice, true), (.conflicting, false)] {
            let notice = PushWords().notice(push, message(content, verdict: verdict))
            XCTAssertEqual(notice.text?.body == "pay me", isShown, "\(verdict)")
            if case .generic(_, let obstacle) = notice { XCTAssertEqual(obstacle, .senderConflicts) }
        }
    }

    func testWordsCanBeAnothers() {
        var words = PushWords()
        words.appName = "Plausch"
        words.unreadable = "Neue Nachricht"
        let text = PushText(title: "Plausch", body: "Neue Nachricht")
        let because = PushObstacle.unknownEpoch(code: "unknown_epoch")
        XCTAssertEqual(words.generic(because: because), .generic(text, because: because))
    }

    func testAPushWithoutAnEventOpensNothing() async {
        let handler = PushHandler(
            openReader: { throw Unexpected(what: "opened the store") },
            fetchEvent: { _ in throw Unexpected(what: "asked the homeserver") },
            openTransport: { throw Unexpected(what: "opened a transport") })
        let notice = await handler.notice(for: nil)
        guard case .generic(_, .unexpected) = notice else { return XCTFail("\(notice)") }
    }

    func testAStoreThatIsNotThereIsGenericAndAsksNobody() async {
        let asked = Counter()
        let nowhere = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
        let handler = PushHandler(
            openReader: {
                try await MlsReader.open(storePath: nowhere, storeKey: .raw(key: Data(repeating: 1, count: 32)))
            },
            fetchEvent: { _ in
                asked.add()
                return "{}"
            },
            openTransport: { throw Unexpected(what: "opened a transport") })
        let notice = await handler.notice(for: push)
        let text = PushText(title: "New message", body: "You have a new message")
        XCTAssertEqual(notice, .generic(text, because: .mls(code: "store_missing")))
        XCTAssertEqual(asked.count, 0)
        XCTAssertFalse(FileManager.default.fileExists(atPath: nowhere), "an extension makes no store")
    }

    func testAnErrorsOwnWordsDoNotReachTheLog() async {
        let handler = PushHandler(
            openReader: { throw Unexpected(what: "https://example.org/?access_token=secret") },
            fetchEvent: { _ in "{}" },
            openTransport: { throw Unexpected(what: "opened a transport") })
        guard case .generic(_, .unavailable(let reason)) = await handler.notice(for: push) else {
            return XCTFail("it is not generic")
        }
        XCTAssertEqual(reason, "Unexpected")
    }
}

private struct Unexpected: Error {
    let what: String
}

/// Counts from any thread.
private final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var value = 0

    var count: Int { lock.withLock { value } }
    func add() { lock.withLock { value += 1 } }
}
