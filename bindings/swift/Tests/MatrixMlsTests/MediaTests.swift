// Values that stand in the media repository, as no event could hold them: they come and go as bytes.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class MediaTests: WatchedTestCase {
    /// Uploads a value, and gives what an event has in its place.
    private func upload(_ client: MatrixClient, _ value: Data) async throws -> Json {
        let path = "/_matrix/media/v3/upload"
        let answer = try await client.transport.exchange("POST", path, value, contentType: "application/octet-stream")
        let url = try readJson(answer.body).text("content_uri")
        let hash = sha256(value).base64EncodedString().replacingOccurrences(of: "=", with: "")
        return ["url": url, "size": value.count, "sha256": hash]
    }

    /// The JSON of an event with another field in its content.
    private func changing(_ event: Json, _ field: String, _ value: Json) throws -> String {
        var event = event
        var content = try XCTUnwrap(event["content"] as? Json)
        content[field] = value
        event["content"] = content
        return String(decoding: try writeJson(event), as: UTF8.self)
    }

    private func checkAwaited(_ error: MlsError) {
        check(error, "UnknownEpoch", "value_in_media")
        XCTAssertTrue(error.retryable)
    }

    func testACommitInTheMediaRepositoryWaitsForItsDownloadAndIsTakenIn() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.machine.room(roomId: roomId).rotateKeys()
        try await alice.prepare(roomId)
        let events = try await bob.events(roomId).map { try readJson(Data($0.utf8)) }
        let commit = try XCTUnwrap(events.last { ($0["content"] as? Json)?["resolves"] != nil })
        let text = try XCTUnwrap(commit["content"] as? Json).text("ciphertext")
        let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        let value = try XCTUnwrap(Data(base64Encoded: text + padding))
        let elsewhere = try changing(commit, "ciphertext", try await upload(alice, value))

        let room = try bob.machine.room(roomId: roomId)
        let results = try await room.receiveEvents(events: [elsewhere])
        guard case .waiting(let error)? = results.first?.outcome else { return XCTFail("\(results)") }
        checkAwaited(error)
        let recording = Recording(bob.transport)
        try await bob.machine.drive(recording)
        let downloads = recording.exchanges.all.filter { $0.0.path.contains("/media/download/") }
        XCTAssertEqual(downloads.map(\.0.method), ["GET"])
        XCTAssertEqual(downloads.map(\.0.body), [Data()])
        XCTAssertEqual(downloads.map(\.1.body), [value])
        var heads: Set<String> = []
        for client in [alice, bob] {
            let epochs = try await client.machine.room(roomId: roomId).epochs()
            heads.formUnion(epochs.filter(\.isHead).map(\.id))
        }
        XCTAssertEqual(heads.count, 1)
        try await finish(alice, bob)
    }

    func testAWelcomeWaitsForARatchetTreeInTheMediaRepository() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await alice.createRoom(invite: [bob.userId])
        try await bob.join(roomId)
        try await alice.settle()
        try await alice.enable(roomId)
        try await alice.prepare(roomId)
        let answer = try await bob.transport.exchange("GET", "/_matrix/client/v3/sync?timeout=0")
        var response = try readJson(answer.body)
        let toDevice = response["to_device"] as? Json
        let welcome = try XCTUnwrap((toDevice?["events"] as? [Json])?.first)
        // A tree that is none: with a real one a device would be in, here it finds another way.
        let tree = try await upload(alice, Data((0..<5_000).map { UInt8(truncatingIfNeeded: $0) }))
        let event = try changing(welcome, "ratchet_tree", tree)
        // Only of a room whose state was shown, and whose members are known, a tree is fetched.
        response["to_device"] = nil
        let body = String(decoding: try JSONSerialization.data(withJSONObject: response), as: UTF8.self)
        let changes = try syncChangesFromResponse(response: body, since: nil)
        _ = try await bob.machine.receiveSync(changes: changes)
        let results = try await bob.machine.receiveSync(changes: syncOf(toDevice: [event])).toDevice
        guard case .waiting(let error)? = results.first else { return XCTFail("\(results)") }
        checkAwaited(error)
        let requests = try await bob.machine.outgoingRequests()
        XCTAssertTrue(requests.contains { $0.method == "GET" && $0.path.contains("/media/download/") }, "\(requests)")
        try await bob.settle()
        try await bob.send("in after all", to: roomId)
        let read = try await alice.settle().map(text)
        XCTAssertTrue(read.contains("in after all"), "\(read)")
        try await finish(alice, bob)
    }

    /// The test vectors of FIPS 180-4: what the tests above compare with.
    func testTheHashIsSha256() {
        func hex(_ data: Data) -> String { data.map { String(format: "%02x", $0) }.joined() }
        XCTAssertEqual(
            hex(sha256(Data())), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(
            hex(sha256(Data("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8))),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    }
}

/// SHA-256 (FIPS 180-4). Foundation has none on Linux.
private func sha256(_ message: Data) -> Data {
    func primes(_ count: Int) -> [UInt32] {
        var primes: [UInt32] = []
        var next: UInt32 = 2
        while primes.count < count {
            if !primes.contains(where: { next % $0 == 0 }) { primes.append(next) }
            next += 1
        }
        return primes
    }
    func fraction(_ root: Double) -> UInt32 {
        UInt32((root - root.rounded(.down)) * 4_294_967_296)
    }
    func rotate(_ word: UInt32, _ by: UInt32) -> UInt32 { word >> by | word << (32 - by) }
    let constants = primes(64).map { fraction(cbrt(Double($0))) }
    var hash = primes(8).map { fraction(Double($0).squareRoot()) }
    var padded = [UInt8](message) + [0x80]
    padded += [UInt8](repeating: 0, count: (120 - padded.count % 64) % 64)
    padded += withUnsafeBytes(of: (UInt64(message.count) * 8).bigEndian, Array.init)
    for block in stride(from: 0, to: padded.count, by: 64) {
        var words = (0..<16).map { word in
            (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(padded[block + word * 4 + $1]) }
        }
        for at in 16..<64 {
            let (a, b) = (words[at - 15], words[at - 2])
            let (s0, s1) = (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3, rotate(b, 17) ^ rotate(b, 19) ^ b >> 10)
            words.append(words[at - 16] &+ s0 &+ words[at - 7] &+ s1)
        }
        var v = hash
        for at in 0..<64 {
            let s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)
            let choice = v[4] & v[5] ^ ~v[4] & v[6]
            let t1 = v[7] &+ s1 &+ choice &+ constants[at] &+ words[at]
            let s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)
            let majority = v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2]
            v = [t1 &+ s0 &+ majority, v[0], v[1], v[2], v[3] &+ t1, v[4], v[5], v[6]]
        }
        hash = zip(hash, v).map { $0 &+ $1 }
    }
    return Data(hash.flatMap { withUnsafeBytes(of: $0.bigEndian, Array.init) })
}
