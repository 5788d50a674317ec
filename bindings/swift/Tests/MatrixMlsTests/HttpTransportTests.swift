// The sample's HTTP client, which apps copy: each kind of request that the engine hands out.

import Foundation
import MatrixClientSample
import XCTest

import MatrixMls

final class HttpTransportTests: WatchedTestCase {
    private func request(_ method: String, _ path: String, _ contentType: String, _ body: Data = Data())
        -> OutgoingRequest
    {
        OutgoingRequest(id: "of no engine", method: method, path: path, contentType: contentType, body: body)
    }

    func testMediaGoesUpAndComesDownToTheByte() async throws {
        // Megabytes of bytes that are no text.
        let blob = Data((0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 / 251) })
        let alice = try await account("alice")
        let upload = request("POST", "/_matrix/media/v3/upload", "application/octet-stream", blob)
        let uploaded = try await alice.transport.send(upload)
        XCTAssertEqual(uploaded.status, 200)
        let answer = try JSONDecoder().decode([String: String].self, from: uploaded.body)
        let uri = try XCTUnwrap(answer["content_uri"])
        let path = "/_matrix/client/v1/media/download/\(uri.dropFirst("mxc://".count))"
        // With a body, this would be refused before it is sent or taken for something else.
        let downloaded = try await alice.transport.send(request("GET", path, "application/json"))
        XCTAssertEqual(downloaded.status, 200)
        XCTAssertTrue(downloaded.body == blob)
        let unknown = try await alice.transport.send(request("GET", path + "x", "application/json"))
        XCTAssertEqual(unknown.status, 404)
        XCTAssertTrue(String(decoding: unknown.body, as: UTF8.self).contains("M_NOT_FOUND"))
        try await finish(alice)
    }
}
