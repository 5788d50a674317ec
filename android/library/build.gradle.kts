// org.matrixmls for Android: the generated code and the layer of bindings/kotlin, the store's key in the
// Android Keystore, and the native libraries that `cargo xtask android` puts into jniLibs.
//
// `gradle :library:publishToMavenLocal` puts the AAR with its sources and its POM into ~/.m2.
plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
    `maven-publish`
}

group = "org.matrixmls"
version = "0.1.0"

android {
    namespace = "org.matrixmls.android"
    compileSdk = 36

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
    }

    sourceSets["main"].kotlin.srcDirs(
        "src/main/kotlin",
        "../../bindings/kotlin/library/src/main/kotlin",
        "../../bindings/kotlin/library/generated",
    )

    publishing {
        singleVariant("release") { withSourcesJar() }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin { compilerOptions { jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17 } }

dependencies {
    api(libs.coroutines.core)
    implementation(libs.coroutines.android)
    implementation(libs.jna) { artifact { type = "aar" } }
}

publishing {
    publications {
        register<MavenPublication>("release") {
            artifactId = "matrix-mls-android"
            afterEvaluate { from(components["release"]) }
            pom {
                name = "matrix-mls"
                description = "Messaging Layer Security (RFC 9420) for Matrix rooms: the engine that an app embeds"
                url = "https://github.com/matrix-mls/matrix-mls"
                licenses {
                    license {
                        name = "MIT"
                        url = "https://opensource.org/license/mit"
                    }
                    license {
                        name = "Apache-2.0"
                        url = "https://www.apache.org/licenses/LICENSE-2.0"
                    }
                }
                scm {
                    url = "https://github.com/matrix-mls/matrix-mls"
                    connection = "scm:git:https://github.com/matrix-mls/matrix-mls.git"
                }
            }
        }
    }
}
