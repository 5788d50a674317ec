// Nothing is left behind: not by messages, not by machines, not by handles that nobody holds.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class MemoryTests: DirectoryTestCase {
    func testTenThousandMessagesLeaveNothingBehind() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone(testRoomId, RoomSettings(rotateAfterMessages: .max))
        // Large enough that one buffer lost in each round is more than what is allowed below.
        let padding = String(repeating: "x", count: 4_000)
        func rounds(_ count: Int) async throws {
            for round in 0..<count {
                let content = #"{"body":"\#(round) \#(padding)"}"#
                let sealed = try await room.encrypt(eventType: "m.room.message", content: content)
                let event = #"{"type":"m.room.encrypted","sender":"\#(ownUserId)","content":\#(sealed)}"#
                let opened = try await room.decrypt(event: event)
                guard opened.content == content else { throw TestError("\(content) became \(opened.content)") }
            }
        }
        try await rounds(2_000)
        let before = try Resources()
        try await rounds(10_000)
        try Resources().assertLittleMore(than: before)
        try await machine.shutdown()
    }

    func testFiveHundredOpeningsLeaveNothingBehind() async throws {
        func openings(_ count: Int) async throws {
            for _ in 0..<count {
                let machine = try await open(directory)
                let room = try machine.room(roomId: testRoomId)
                let updates = try await machine.updates()
                try await machine.shutdown()
                _ = (room, updates)
            }
        }
        try await openings(100)
        let before = try Resources()
        try await openings(500)
        try Resources().assertLittleMore(than: before)
        #if os(Linux)
            try await until("the threads of 500 machines' observers end") {
                try !threadNames().contains { $0.hasPrefix("matrix-mls-") }
            }
        #endif
    }

    func testWhatNobodyHoldsIsFreed() async throws {
        weak var machine: MlsMachine?
        weak var room: MlsRoom?
        weak var reader: MlsReader?
        do {
            let heldMachine = try await open(directory)
            let heldRoom = try heldMachine.room(roomId: testRoomId)
            let heldReader = try await MlsReader.open(storePath: directory.path, storeKey: testKey)
            (machine, room, reader) = (heldMachine, heldRoom, heldReader)
            _ = try await (heldMachine.rooms(), heldRoom.isEnabled())
            XCTAssertNotNil(machine)
            withExtendedLifetime((heldMachine, heldRoom, heldReader)) {}
        }
        XCTAssertNil(machine)
        XCTAssertNil(room)
        XCTAssertNil(reader)
        // The engine went with its last handle: the store can be opened though nobody closed it.
        let directory = directory
        try await until("the store is let go of") {
            do {
                try await open(directory).shutdown()
                return true
            } catch MlsError.StoreInUse {
                return false
            }
        }
    }
}

/// What this process uses. Only Linux tells in /proc; elsewhere the rounds run and nothing is compared.
private struct Resources {
    var kibibytes = 0
    var threads = 0
    var files = 0
    var names: [String] = []

    init() throws {
        #if os(Linux)
            let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
            func number(_ name: String) throws -> Int {
                let line = status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
                return try XCTUnwrap(line.flatMap { Int($0.filter(\.isNumber)) })
            }
            kibibytes = try number("VmRSS")
            threads = try number("Threads")
            names = try threadNames()
            files = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        #endif
    }

    func assertLittleMore(than before: Resources, line: UInt = #line) {
        XCTAssertLessThan(kibibytes - before.kibibytes, 8_000, "KiB of memory", line: line)
        // The pool that the engine's work runs on is shared, and larger on a busy machine; a thread for each of some
        // hundred rounds is what must not be.
        XCTAssertLessThan(threads - before.threads, 250, "threads: \(names)", line: line)
        XCTAssertLessThanOrEqual(files - before.files, 20, "open files", line: line)
    }
}

#if os(Linux)
    /// The names of this process's threads.
    func threadNames() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").compactMap { thread in
            // A thread may end between the two.
            let name = try? String(contentsOfFile: "/proc/self/task/\(thread)/comm", encoding: .utf8)
            return name?.trimmingCharacters(in: .newlines)
        }
    }
#endif
