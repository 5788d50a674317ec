// Reading a sync response, where Swift looks for it: on the type that comes out.

extension SyncChanges {
    /// Takes what the engine needs out of the body of a `/v3/sync` response, for `receiveSync`.
    ///
    /// Throws `InvalidInput` when the body is no sync response.
    public static func fromSyncResponse(_ body: String) throws -> SyncChanges {
        try syncChangesFromResponse(response: body)
    }
}
