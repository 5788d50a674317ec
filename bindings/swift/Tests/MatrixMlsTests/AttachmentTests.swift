// Files that are sent encrypted.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

private final class Steps: AttachmentProgress {
    let steps = Record<[UInt64]>()

    func onProgress(done: UInt64, total: UInt64) {
        steps.add([done, total])
    }
}

final class AttachmentTests: WatchedTestCase {
    func testAPictureIsEncryptedAndOpensWithWhatTheMessageSays() async throws {
        let picture = Data((0..<10_000).map { UInt8(truncatingIfNeeded: $0) })
        let encrypted = try encryptAttachment(bytes: picture)
        let file = try encrypted.key.encryptedFile(url: "mxc://example.org/abc")
        XCTAssertEqual(try readJson(Data(file.utf8)).text("url"), "mxc://example.org/abc")
        let key = try AttachmentKey.parse(encryptedFile: file)
        XCTAssertEqual(try decryptAttachment(bytes: encrypted.bytes, key: key), picture)
        var changed = encrypted.bytes
        changed[0] &+= 1
        let altered = changed
        try await fails("Rejected", "attachment_changed") { try decryptAttachment(bytes: altered, key: key) }
        try await fails("Rejected", "bad_encrypted_file") { try AttachmentKey.parse(encryptedFile: "{}") }
    }

    func testAFileOfAnySizeGoesFromDiskToDisk() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        func path(_ name: String) -> String { directory.appendingPathComponent(name).path }
        try Data(repeating: 7, count: 1_000_000).write(to: URL(fileURLWithPath: path("plain")))
        let steps = Steps()
        let key = try await encryptAttachmentFile(source: path("plain"), target: path("sealed"), progress: steps)
        XCTAssertEqual(steps.steps.all.last, [1_000_000, 1_000_000])
        try await decryptAttachmentFile(source: path("sealed"), target: path("opened"), key: key, progress: nil)
        XCTAssertTrue(FileManager.default.contentsEqual(atPath: path("plain"), andPath: path("opened")))
        try FileManager.default.removeItem(atPath: path("opened"))
        try Data(count: 1_000_000).write(to: URL(fileURLWithPath: path("sealed")))
        try await fails("Rejected", "attachment_changed") {
            try await decryptAttachmentFile(source: path("sealed"), target: path("opened"), key: key, progress: nil)
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: path("opened")))
    }
}
