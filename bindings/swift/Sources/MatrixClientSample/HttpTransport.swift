// The engine's requests over `URLSession`: what an app with another HTTP client replaces.

import Foundation
import MatrixMls

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// Talks to one homeserver, with an access token once there is one.
public struct HttpTransport: Transport {
    private let baseUrl: String
    private let accessToken: String?
    private let session: URLSession

    /// Requests go to `baseUrl`, such as `https://matrix.example.org`, with this access token.
    public init(baseUrl: String, accessToken: String? = nil, session: URLSession = .shared) {
        self.baseUrl = baseUrl.hasSuffix("/") ? String(baseUrl.dropLast()) : baseUrl
        self.accessToken = accessToken
        self.session = session
    }

    /// A `GET` goes without a body and without a type for one: `URLSession` and some proxies refuse it with them.
    public func send(_ request: OutgoingRequest) async throws -> Answer {
        let body = request.method == "GET" ? nil : request.body
        return try await exchange(request.method, request.path, body, contentType: request.contentType)
    }

    /// Sends any request of the client-server API. Cancelling the task ends the waiting.
    public func exchange(
        _ method: String, _ path: String, _ body: Data? = nil, contentType: String = "application/json"
    ) async throws -> Answer {
        guard let url = URL(string: baseUrl + path) else { throw URLError(.badURL) }
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData, timeoutInterval: 60)
        request.httpMethod = method
        if let body {
            request.httpBody = body
            request.setValue(contentType, forHTTPHeaderField: "Content-Type")
        }
        if let accessToken {
            request.setValue("Bearer \(accessToken)", forHTTPHeaderField: "Authorization")
        }
        let (answer, response) = try await exchange(request)
        guard let response = response as? HTTPURLResponse else { throw URLError(.badServerResponse) }
        return Answer(status: response.statusCode, body: answer)
    }

    private func exchange(_ request: URLRequest) async throws -> (Data, URLResponse) {
        #if canImport(FoundationNetworking)
            try await Exchange.run(request, in: session)
        #else
            try await session.data(for: request)
        #endif
    }
}
