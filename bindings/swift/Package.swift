// swift-tools-version: 5.9
// MatrixMls: the engine's Swift, a sample Matrix client on it, a first program (TwoDevices),
// a program of one device, and one that measures calls.
//
// Sources/MatrixMls/Generated and the C header are written by `cargo xtask bindings` and are not kept in git.
// The native library is found by the linker: `-Xlinker -L<folder> -Xlinker -rpath -Xlinker <folder>`.
import PackageDescription

let package = Package(
    name: "MatrixMls",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        .library(name: "MatrixMls", targets: ["MatrixMls"]),
        .library(name: "MatrixClientSample", targets: ["MatrixClientSample"]),
        .executable(name: "TwoDevices", targets: ["TwoDevices"]),
        .executable(name: "Device", targets: ["Device"]),
        .executable(name: "Calls", targets: ["Calls"]),
    ],
    targets: [
        .systemLibrary(name: "MatrixMlsFFI"),
        .target(name: "MatrixMls", dependencies: ["MatrixMlsFFI"]),
        .target(name: "MatrixClientSample", dependencies: ["MatrixMls"]),
        .executableTarget(name: "TwoDevices", dependencies: ["MatrixMls", "MatrixClientSample"]),
        .executableTarget(name: "Device", dependencies: ["MatrixMls", "MatrixClientSample"]),
        .executableTarget(name: "Calls", dependencies: ["MatrixMls"]),
        .testTarget(name: "MatrixMlsTests", dependencies: ["MatrixMls", "MatrixClientSample"]),
    ],
    swiftLanguageVersions: [.v5, .version("6")]
)
