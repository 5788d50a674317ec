// swift-tools-version:5.9
// The package an iOS or macOS app adds. Its MatrixMls target is the same source as that of bindings/swift,
// through a link; what differs is where the engine comes from: an XCFramework made by
// `cargo xtask ios` on Apple platforms, the built library on Linux, where this package's tests run.

import PackageDescription

#if os(Linux)
let engine: Target = .systemLibrary(name: "MatrixMlsFFI")
#else
let engine: Target = .binaryTarget(name: "MatrixMlsFFI", path: "MatrixMlsFFI.xcframework")
#endif

let package = Package(
    name: "MatrixMlsIOS",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        .library(name: "MatrixMls", targets: ["MatrixMls"]),
        .library(name: "MatrixMlsKeychain", targets: ["MatrixMlsKeychain"]),
        .library(name: "MatrixMlsPush", targets: ["MatrixMlsPush"]),
        .library(name: "MatrixMlsSampleModel", targets: ["MatrixMlsSampleModel"]),
    ],
    targets: [
        engine,
        .target(name: "MatrixMls", dependencies: ["MatrixMlsFFI"]),
        .target(name: "MatrixClientSample", dependencies: ["MatrixMls"]),
        .target(name: "MatrixMlsKeychain", dependencies: ["MatrixMls"]),
        .target(name: "MatrixMlsPush", dependencies: ["MatrixMls"]),
        .target(
            name: "MatrixMlsSampleModel",
            dependencies: ["MatrixMls", "MatrixClientSample", "MatrixMlsKeychain"]
        ),
        .testTarget(name: "MatrixMlsKeychainTests", dependencies: ["MatrixMlsKeychain"]),
        .testTarget(name: "MatrixMlsPushTests", dependencies: ["MatrixMlsPush"]),
        .testTarget(
            name: "MatrixMlsSampleModelTests",
            dependencies: ["MatrixMlsSampleModel", "MatrixMlsPush"]
        ),
        .testTarget(name: "PackagingTests"),
    ]
)
