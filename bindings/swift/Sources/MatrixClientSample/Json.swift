// The little JSON that the sample reads and writes: objects of the client-server API, whose events go to the engine as
// text.

import Foundation

/// A JSON object.
public typealias Json = [String: Any]

/// Reads a JSON object.
public func readJson(_ text: Data) throws -> Json {
    guard let object = try JSONSerialization.jsonObject(with: text) as? Json else {
        throw MatrixError(what: "a JSON object", status: nil, body: String(decoding: text, as: UTF8.self))
    }
    return object
}

/// Writes a JSON object.
public func writeJson(_ object: Json) throws -> Data {
    try JSONSerialization.data(withJSONObject: object, options: .withoutEscapingSlashes)
}

extension Dictionary where Key == String, Value == Any {
    /// The text in a field that must be there.
    public func text(_ field: String) throws -> String {
        guard let text = self[field] as? String else {
            throw MatrixError(what: "a field \(field)", status: nil, body: keys.sorted().joined(separator: ", "))
        }
        return text
    }
}

/// The homeserver answered with an error, or with something else than its API says.
public struct MatrixError: Error, CustomStringConvertible, Sendable {
    /// What was asked for.
    public let what: String
    /// The HTTP status, where the homeserver answered with an error.
    public let status: Int?
    /// What came instead.
    public let body: String

    public var description: String {
        status.map { "\(what) was answered \($0): \(body)" } ?? "expected \(what), got: \(body)"
    }
}
