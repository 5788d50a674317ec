/// What the app and its notification extension have to agree on. Both targets compile this file; the entitlements
/// name the same groups.

enum Settings {
    /// The app group whose container holds the store.
    static let appGroup = "group.org.example.chat"
    /// The Keychain access group, with the team's prefix. Put your team's identifier here.
    static let keychainGroup = "ABCDE12345.org.example.chat.shared"
}
