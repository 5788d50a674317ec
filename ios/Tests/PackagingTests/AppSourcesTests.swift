/// The sources that need Apple's frameworks, as far as a compiler without them goes: they are Swift.

import Foundation
import XCTest

final class AppSourcesTests: XCTestCase, @unchecked Sendable {
    func testTheAppsAndTheExtensionsSourcesParse() async throws {
        let files = try Files.swift(in: "SampleApp") + Files.swift(in: "NotificationService")
        XCTAssertGreaterThanOrEqual(files.count, 8)
        let (status, messages) = try parse(files.map { Files.root.appendingPathComponent($0).path })
        XCTAssertEqual(status, 0, messages)
        XCTAssertEqual(messages, "")
    }

    func testAFileThatIsNoSwiftDoesNotParse() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).swift")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("struct {".utf8).write(to: file)
        XCTAssertNotEqual(try parse([file.path]).status, 0)
    }

    private func parse(_ files: [String]) throws -> (status: Int32, messages: String) {
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["swiftc", "-frontend", "-parse"] + files
        let output = Pipe()
        compiler.standardError = output
        try compiler.run()
        let messages = output.fileHandleForReading.readDataToEndOfFile()
        compiler.waitUntilExit()
        return (compiler.terminationStatus, String(decoding: messages, as: UTF8.self))
    }
}
