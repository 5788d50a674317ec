// What holds a secret or a message shows nothing of it to a mirror: `dump`, a debugger's console and test failures look
// there. What it prints is in Rust.

import Foundation

extension StoreKey: CustomReflectable {
    /// Nothing.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension BackupSecret: CustomReflectable {
    /// The secret's name alone.
    public var customMirror: Mirror { Mirror(self, children: ["name": name]) }
}

extension ExportedSecret: CustomReflectable {
    /// The epoch that the secret is of.
    public var customMirror: Mirror { Mirror(self, children: ["epoch": epoch, "epochId": epochId]) }
}

extension RecoveryKey: CustomReflectable {
    /// Nothing.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension DecryptedMessage: CustomReflectable {
    /// All but the content.
    public var customMirror: Mirror {
        Mirror(
            self,
            children: [
                "eventId": eventId as Any, "senderUserId": senderUserId, "senderDeviceId": senderDeviceId,
                "verdict": verdict, "eventType": eventType, "epoch": epoch,
            ])
    }
}

extension OutgoingRequest: CustomReflectable {
    /// All but the body.
    public var customMirror: Mirror {
        Mirror(self, children: ["id": id, "method": method, "path": path, "contentType": contentType])
    }
}

extension Answer: CustomReflectable {
    /// The status alone.
    public var customMirror: Mirror { Mirror(self, children: ["status": status]) }
}
