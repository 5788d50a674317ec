// That nothing is exported without being called in a test, and that its documentation arrives.

import Foundation
import XCTest

/// `bindings`, from where this file is.
private let bindings = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..")

/// The lines of the listing of the exported API.
func apiListing() throws -> [String] {
    try String(contentsOf: bindings.appendingPathComponent("api.txt"), encoding: .utf8).components(separatedBy: "\n")
}

/// All test sources, without their comments.
func testSources() throws -> String {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    let lines = try files.filter { $0.pathExtension == "swift" }.flatMap {
        try String(contentsOf: $0, encoding: .utf8).components(separatedBy: "\n")
    }
    return lines.filter { !$0.trimmingCharacters(in: .whitespaces).hasPrefix("//") }.joined(separator: "\n")
}

/// An exported call: what it belongs to, if anything, and its name as Swift has it.
private struct Call: Hashable {
    let owner: String?
    let kind: String
    let name: String

    /// How a test calls it. A name that several objects have is told apart by what the handle is called.
    func pattern(shared: Bool) -> String {
        switch (kind, owner) {
        case ("constructor", let owner?): #"\b\#(owner)\.\#(name)\("#
        // What the app implements is called by Rust.
        case (_, "LogSink"?), (_, "UpdateObserver"?), (_, "RollbackGuard"?), (_, "AttachmentProgress"?): #"\bfunc \#(name)\("#
        case (_, let owner?) where shared: #"(?i:\#(owner.dropFirst(3)))\.\#(name)\("#
        case (_, _?): #"\.\#(name)\("#
        case (_, nil): #"\b\#(name)\("#
        }
    }
}

final class ApiTests: XCTestCase {
    private func exported() throws -> [Call] {
        var owner: String?
        return try apiListing().compactMap { line in
            let words = line.prefix { $0 != "(" }.split(separator: " ").filter { $0 != "async" }
            guard words.count > 1 else { return nil }
            let isMember = line.hasPrefix(" ")
            switch words[0] {
            case "object" where !isMember, "callback" where !isMember, "enum" where !isMember, "error" where !isMember:
                owner = String(words[1])
                return nil
            case "function" where !isMember:
                return Call(owner: nil, kind: "function", name: camelCase(words[1]))
            case "constructor" where isMember, "method" where isMember:
                return Call(owner: owner, kind: String(words[0]), name: camelCase(words[1]))
            default:
                return nil
            }
        }
    }

    private func camelCase(_ name: some StringProtocol) -> String {
        let words = name.split(separator: "_")
        return words.prefix(1).joined() + words.dropFirst().map(\.capitalized).joined()
    }

    func testEveryExportedFunctionIsCalledInATest() throws {
        let (calls, sources) = (try exported(), try testSources())
        XCTAssertGreaterThan(calls.count, 30, "\(calls)")
        let owners = Dictionary(grouping: calls, by: \.name)
        let missing = calls.filter { call in
            let pattern = call.pattern(shared: (owners[call.name]?.count ?? 0) > 1)
            return sources.range(of: pattern, options: .regularExpression) == nil
        }
        XCTAssertEqual(missing, [])
    }

    func testEveryErrorIsExpectedInATest() throws {
        let errors = try listedErrors()
        XCTAssertGreaterThan(errors.count, 10)
        let sources = try testSources()
        // A full disk is not made here; ErrorTests has what an app sees of one.
        let missing = errors.filter { $0 != "StoreFull" }.filter { error in
            sources.range(of: #"(fails\(|check\(\w+, )"\#(error)""#, options: .regularExpression) == nil
        }
        XCTAssertEqual(missing, [])
    }

    func testEveryUpdateAndEveryResultIsExpectedInATest() throws {
        let sources = try testSources()
        let names = [
            "Update", "ToDeviceResult", "EventOutcome", "RequestOutcome", "SendPlan", "BackupState", "RestoreScope",
        ]
        let variants = try names.flatMap { name in
            try apiListing().drop { !$0.hasPrefix("enum \(name) ") }.dropFirst().prefix { $0.hasPrefix("  ") }
                .compactMap { $0.split(separator: " ").first }
                .map { $0.prefix(1).lowercased() + $0.dropFirst() }
        }
        XCTAssertGreaterThan(variants.count, 25)
        let missing = variants.filter { sources.range(of: #"[ (\[]\.\#($0)\b"#, options: .regularExpression) == nil }
        XCTAssertEqual(missing, [])
    }

    func testDocumentationArrives() throws {
        let file = bindings.appendingPathComponent("swift/Sources/MatrixMls/Generated/MatrixMls.swift")
        let generated = try String(contentsOf: file, encoding: .utf8)
        let before = generated.components(separatedBy: "open func prepareToSend()")[0].suffix(1_000)
        XCTAssertTrue(before.contains("* Does the next step towards a group whose members are those of the room"), "\(before)")
        XCTAssertTrue(generated.contains("* 32 bytes from the platform's key store"))
    }

    func testDocumentationSpeaksSwiftAndCodesAreSpelledAsAtRunTime() throws {
        let file = bindings.appendingPathComponent("swift/Sources/MatrixMls/Generated/MatrixMls.swift")
        let comments = try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n")
            .map { $0.trimmingCharacters(in: .whitespaces) }.filter { $0.hasPrefix("* ") }
        XCTAssertGreaterThan(comments.count, 1_000)
        for rust in ["::", "```", "crate", "MlsException", "[`"] {
            XCTAssertEqual(comments.filter { $0.contains(rust) }, [])
        }
        let page = bindings.appendingPathComponent("../docs/errors.md")
        let codes = try String(contentsOf: page, encoding: .utf8).components(separatedBy: "\n").compactMap { line in
            line.hasPrefix("| `") ? line.split(separator: "`").dropFirst().first.map(String.init) : nil
        }
        XCTAssertGreaterThan(codes.count, 120)
        let text = comments.joined(separator: " ")
        // `read_once` is a setting, too.
        for code in codes where code.contains("_") && code != "read_once" {
            XCTAssertFalse(text.contains("`\(camelCase(code))`"), code)
        }
        XCTAssertTrue(text.contains("`\"backup_exists\"`"))
    }
}

/// The variants of `MlsError` in the listing.
func listedErrors() throws -> [String] {
    try apiListing().drop { !$0.hasPrefix("error MlsError") }.dropFirst().prefix { $0.hasPrefix("  ") }
        .filter { !$0.hasPrefix("  method ") }
        .compactMap { $0.split(separator: " ").first.map(String.init) }
}
