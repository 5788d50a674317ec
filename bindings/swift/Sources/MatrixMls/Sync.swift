// Reading a sync response, where Swift looks for it: on the type that comes out.

extension SyncChanges {
    /// Takes what the engine needs out of the body of a `/v3/sync` response, for `receiveSync`.
    ///
    /// `since` is that of the request, nil if the request had none. `syncChangesFromResponse` says what the request's
    /// filter must let pass. Throws `InvalidInput` (`"bad_sync_response"`) when the body is no sync response.
    public static func fromSyncResponse(_ body: String, since: String?) throws -> SyncChanges {
        try syncChangesFromResponse(response: body, since: since)
    }

    /// Takes what the engine needs out of the body of a simplified sliding sync response (MSC4186), for `receiveSync`.
    ///
    /// `request` is the body of the request, `pos` that of its query, nil if it had none. An app with several
    /// connections feeds the responses of all. `syncChangesFromSlidingSync` says what the request must ask for. Throws
    /// `InvalidInput` when the response (`"bad_sync_response"`) or the request (`"bad_sync_request"`) is none.
    public static func fromSlidingSync(request: String, pos: String?, response: String) throws -> SyncChanges {
        try syncChangesFromSlidingSync(request: request, pos: pos, response: response)
    }
}
