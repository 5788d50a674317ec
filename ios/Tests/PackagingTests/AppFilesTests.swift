/// The files of the sample app and its extension that no compiler here reads: property lists, entitlements, the
/// project. The app and the extension must name the same groups, or the extension finds neither store nor key.

import Foundation
import XCTest

final class AppFilesTests: XCTestCase, @unchecked Sendable {
    private let app = "SampleApp/ChatSample.entitlements"
    private let service = "NotificationService/NotificationService.entitlements"

    func testAppExtensionAndCodeNameTheSameGroups() async throws {
        let settings = try Files.text("SampleApp/Settings.swift")
        let appGroup = try Files.matches(#"appGroup = "([^"]+)""#, in: settings).first?.first
        let keychainGroup = try Files.matches(#"keychainGroup = "([A-Z0-9]{10})\.([^"]+)""#, in: settings).first
        for file in [app, service] {
            let entitlements = try Files.plist(file)
            XCTAssertEqual(
                entitlements["com.apple.security.application-groups"] as? [String], [try XCTUnwrap(appGroup)], file)
            let group = "$(AppIdentifierPrefix)\(try XCTUnwrap(keychainGroup)[1])"
            XCTAssertEqual(entitlements["keychain-access-groups"] as? [String], [group], file)
        }
        let team = try Files.matches("DEVELOPMENT_TEAM: (.+)", in: Files.text("project.yml")).first?.first
        XCTAssertEqual(team, keychainGroup?[0])
    }

    func testTheAppMayReceivePushesAndTheExtensionMayHideThem() throws {
        XCTAssertNotNil(try Files.plist(app)["aps-environment"])
        let service = try Files.plist(service)
        XCTAssertEqual(service["com.apple.developer.usernotifications.filtering"] as? Bool, true)
        XCTAssertNil(service["aps-environment"])
    }

    func testTheExtensionIsWhatTheSystemLooksFor() throws {
        let info = try Files.plist("NotificationService/Info.plist")
        let point = try XCTUnwrap(info["NSExtension"] as? [String: Any])
        XCTAssertEqual(point["NSExtensionPointIdentifier"] as? String, "com.apple.usernotifications.service")
        let name = try XCTUnwrap(point["NSExtensionPrincipalClass"] as? String)
        let type = try XCTUnwrap(name.split(separator: ".").last)
        let source = try Files.text("NotificationService/NotificationService.swift")
        XCTAssertTrue(source.contains("class \(type): UNNotificationServiceExtension"), name)
        XCTAssertEqual(
            try Files.plist("SampleApp/Info.plist")["CFBundlePackageType"] as? String,
            info["CFBundlePackageType"] as? String)
    }

    func testTheProjectsFilesAndProductsExist() throws {
        let project = try Files.text("project.yml")
        let paths = try Files.matches(#"(?:path|INFOPLIST_FILE|CODE_SIGN_ENTITLEMENTS): (\S+)"#, in: project)
        XCTAssertGreaterThanOrEqual(paths.count, 8)
        for path in paths.flatMap({ $0 }) {
            XCTAssertTrue(
                FileManager.default.fileExists(atPath: Files.root.appendingPathComponent(path).path), path)
        }
        let package = try Files.text("Package.swift")
        let used = Set(try Files.matches(#"product: (\S+)"#, in: project).flatMap { $0 })
        let offered = Set(try Files.matches(#"\.library\(name: "([^"]+)""#, in: package).flatMap { $0 })
        XCTAssertFalse(used.isEmpty)
        XCTAssertEqual(used.subtracting(offered), [])
    }

    func testWhatTheAppImportsItsTargetLinks() throws {
        let project = try Files.text("project.yml")
        let parts = project.components(separatedBy: "\n  NotificationService:\n")
        XCTAssertEqual(parts.count, 2)
        for (folder, target) in zip(["SampleApp", "NotificationService"], parts) {
            let linked = Set(try Files.matches(#"product: (\S+)"#, in: target).flatMap { $0 })
            let sources = try Files.swift(in: folder).map { try Files.text($0) }.joined(separator: "\n")
            let imported = Set(try Files.matches(#"(?m)^import (Matrix\w+)"#, in: sources).flatMap { $0 })
            XCTAssertEqual(imported, linked, folder)
        }
    }
}
