// What an app gives the layer to send the engine's requests with, and what it is told about them. The layer
// has no HTTP client of its own: base URL, access token, proxies and certificates stay the app's.

import Foundation

/// A homeserver's answer, whatever it says.
public struct Answer: Sendable, Equatable {
    /// The HTTP status.
    public var status: Int
    /// The body, as it came.
    public var body: Data

    /// An answer with this HTTP status and body.
    public init(status: Int, body: Data) {
        self.status = status
        self.body = body
    }
}

/// Sends the engine's requests with the app's HTTP client, base URL and access token.
public protocol Transport: Sendable {
    /// Sends one request and gives the answer, errors of the homeserver included.
    ///
    /// The method is `GET`, `PUT`, `POST` or `DELETE`; send a `GET` without a body. Bodies and answers are bytes and not always
    /// text, and may be megabytes.
    ///
    /// Throw when there was no answer: no network, a timeout, a connection cut. Any error counts as that, and
    /// the request is sent again later; only `CancellationError`, and any error in a task that was cancelled, ends
    /// the call that wanted the request sent.
    func send(_ request: OutgoingRequest) async throws -> Answer
}

/// A request that the homeserver refused for good.
public struct Refusal: Sendable, Equatable {
    /// Its HTTP method.
    public var method: String
    /// Its path.
    public var path: String
    /// The Matrix error code, or `HTTP_` and the status.
    public var code: String
    /// The homeserver's sentence.
    public var reason: String

    /// A refusal of a request with this method and path.
    public init(method: String, path: String, code: String, reason: String) {
        self.method = method
        self.path = path
        self.code = code
        self.reason = reason
    }
}

/// What ``MlsMachine/drive(_:)`` sent.
public struct Driven: Sendable, Equatable {
    /// How many requests the homeserver took.
    public var accepted: Int
    /// Those it refused; the engine has undone what they stood for and plans it anew.
    public var refused: [Refusal]

    /// What came of a number of requests.
    public init(accepted: Int = 0, refused: [Refusal] = []) {
        self.accepted = accepted
        self.refused = refused
    }
}
