// Calls from Rust into Swift: updates and logs, and on which threads they come.

import Foundation
import MatrixMls
import XCTest

/// Keeps what it hears and on which thread.
private final class Recorder: UpdateObserver, LogSink {
    let heard = Record<Update>()
    let ends = Record<Bool>()
    let lines = Record<String>()
    let threads = Record<String>()

    func onUpdate(update: Update) {
        heard.add(update)
        threads.add(threadName())
    }

    func onEnd() {
        ends.add(true)
        threads.add(threadName())
    }

    func onLog(level: LogLevel, target: String, message: String) {
        lines.add("\(level) \(target) \(message)")
        threads.add(threadName())
    }
}

final class WatchingTests: DirectoryTestCase {
    func testUpdatesComeOnAThreadOfRustsUntilTheSubscriptionIsStopped() async throws {
        let machine = try await open(directory)
        let (kept, stopped) = (Recorder(), Recorder())
        let subscription = try await machine.subscribe(observer: kept)
        try await machine.subscribe(observer: stopped).stop()
        try await until("the stopped one hears of its end") { !stopped.ends.all.isEmpty }
        _ = try await machine.enableAlone()
        try await until("an update") { !kept.heard.all.isEmpty }
        XCTAssertEqual(kept.heard.all[0], .joined(roomId: testRoomId, epoch: 0))
        XCTAssertEqual(stopped.heard.all, [])
        XCTAssertTrue(kept.threads.all.allSatisfy { $0.hasPrefix("matrix-mls-") }, "\(kept.threads.all)")
        try await machine.shutdown()
        try await until("the kept one hears of the end") { !kept.ends.all.isEmpty }
        subscription.stop()
        XCTAssertEqual(kept.ends.all.count, 1)
    }

    func testUpdatesAreAStreamThatEndsWithTheMachine() async throws {
        let machine = try await open(directory)
        let (stream, other) = (try await machine.updates(), try await machine.updates())
        let all = Task { await stream.reduce(into: []) { $0.append($1) } }
        let cancelled = Task { await other.reduce(into: 0) { count, _ in count += 1 } }
        cancelled.cancel()
        _ = await cancelled.value
        _ = try await machine.enableAlone("!a:example.org")
        _ = try await machine.enableAlone("!b:example.org")
        try await machine.shutdown()
        let updates = await all.value
        let joined = updates.compactMap { update -> String? in
            if case .joined(let roomId, _) = update { roomId } else { nil }
        }
        XCTAssertEqual(joined, ["!a:example.org", "!b:example.org"])
        try await fails("Closed", "closed") { try await machine.updates() }
    }

    /// Nobody is told of what a stream's end does, so that is seen from the memory it gives back.
    func testAStreamThatNobodyReadsAnyMoreLetsGoOfItsSubscription() async throws {
        let machine = try await open(directory)
        weak var mark: Recorder?
        do {
            let recorder = Recorder()
            mark = recorder
            let subscription = try await machine.subscribe(observer: recorder)
            _ = subscription
        }
        try await until("the dropped subscription's observer is freed") { mark == nil }
        #if os(Linux)
            func observers() throws -> Int {
                try threadNames().filter { $0.hasPrefix("matrix-mls-") }.count
            }
            try await until("threads of earlier tests end") { try observers() == 0 }
            var stream: AsyncStream<Update>? = try await machine.updates()
            // A thread has its name only once it runs.
            try await until("its thread runs") { try observers() == 1 }
            XCTAssertNotNil(stream)
            stream = nil
            try await until("its thread ends") { try observers() == 0 }
        #endif
        try await machine.shutdown()
    }

    func testLogsReachTheSinkFromAThreadOfRusts() async throws {
        let recorder = Recorder()
        try setLogSink(level: .debug, sink: recorder)
        let machine = try await open(directory)
        let changes = syncOf(rooms: [RoomChanges(roomId: "no room", limited: false)])
        _ = try await machine.receiveSync(changes: changes)
        try setLogSink(level: .debug, sink: nil)
        let seen = recorder.lines.all.count
        _ = try await machine.receiveSync(changes: changes)
        try await machine.shutdown()
        XCTAssertTrue(recorder.lines.all.contains { $0.contains("matrix_mls") }, "\(recorder.lines.all)")
        XCTAssertEqual(recorder.lines.all.count, seen, "nobody listens any more")
        XCTAssertTrue(recorder.threads.all.contains { $0.hasPrefix("tokio") }, "\(recorder.threads.all)")
    }
}
