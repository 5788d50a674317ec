/// The slices that are built, the platforms that the package promises and the targets that the project sets must be
/// the same: an app that may be installed where there is no slice for it does not start.

import Foundation
import XCTest

final class SlicesTests: XCTestCase, @unchecked Sendable {
    private struct Slice {
        let platform: String
        let version: String
        let targets: [String]
    }

    private func slices() throws -> [Slice] {
        try Files.text("slices.txt").split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let words = line.split(separator: " ").map(String.init)
            XCTAssertGreaterThanOrEqual(words.count, 3, "\(line)")
            return Slice(platform: words[0], version: words[1], targets: Array(words.dropFirst(2)))
        }
    }

    func testEverySliceHasTheTargetsOfItsPlatform() async throws {
        let slices = try slices()
        XCTAssertEqual(slices.map(\.platform), ["ios", "ios-simulator", "macos"])
        for slice in slices {
            for target in slice.targets {
                let parts = target.split(separator: "-", maxSplits: 2).map(String.init)
                XCTAssertEqual(parts.count, 3, target)
                XCTAssertTrue(["aarch64", "x86_64"].contains(parts[0]), target)
                XCTAssertEqual(parts[1], "apple", target)
                switch slice.platform {
                case "ios": XCTAssertEqual(target, "aarch64-apple-ios")
                // On Intel the simulator's target is the plain one.
                case "ios-simulator": XCTAssertTrue(["aarch64-apple-ios-sim", "x86_64-apple-ios"].contains(target))
                case "macos": XCTAssertEqual(parts[2], "darwin")
                default: XCTFail("what is \(slice.platform)?")
                }
            }
            // lipo takes one of each architecture.
            let architectures = slice.targets.map { $0.prefix { $0 != "-" } }
            XCTAssertEqual(Set(architectures).count, slice.targets.count, slice.platform)
        }
        let all = slices.flatMap(\.targets)
        XCTAssertEqual(Set(all).count, all.count)
        XCTAssertEqual(Set(slices.dropFirst().map(\.targets.count)), [2], "simulators and Macs are of both kinds")
    }

    func testPackageAndSlicesPromiseTheSameSystems() throws {
        let package = try Files.text("Package.swift")
        var promised: [String: String] = [:]
        for match in try Files.matches(#"\.(iOS|macOS)\(\.v(\d+)\)"#, in: package) {
            promised[match[0].lowercased()] = "\(match[1]).0"
        }
        XCTAssertEqual(Set(promised.keys), ["ios", "macos"])
        for slice in try slices() {
            let platform = slice.platform.split(separator: "-")[0]
            XCTAssertEqual(promised[String(platform)], slice.version, slice.platform)
        }
    }

    func testTheOtherPackageOfTheSameSourcesPromisesTheSameSystems() throws {
        let platforms = #"platforms: \[([^\]]*)\]"#
        let ours = try Files.matches(platforms, in: Files.text("Package.swift"))
        let theirs = try Files.matches(platforms, in: Files.text("../bindings/swift/Package.swift"))
        XCTAssertEqual(ours.count, 1)
        XCTAssertEqual(ours, theirs)
    }

    func testTheProjectRunsWhereThePackageDoes() throws {
        let project = try Files.text("project.yml")
        let versions = try Files.matches(#"iOS: "([\d.]+)""#, in: project)
        XCTAssertEqual(versions, [[try XCTUnwrap(slices().first).version]])
    }

    func testTheLinkedSourcesAreThoseOfTheOtherPackage() throws {
        for target in ["MatrixMls", "MatrixMlsFFI", "MatrixClientSample"] {
            let link = Files.root.appendingPathComponent("Sources/\(target)").path
            let destination = try FileManager.default.destinationOfSymbolicLink(atPath: link)
            XCTAssertEqual(destination, "../../bindings/swift/Sources/\(target)")
            XCTAssertTrue(FileManager.default.fileExists(atPath: link), "\(target) leads nowhere")
        }
    }
}
