/** The files that only Android's tools read: that they say the same as the rest of the project. */
package org.matrixmls.android

import java.io.File
import javax.xml.parsers.DocumentBuilderFactory
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.w3c.dom.Element

class FilesTest {
    /** Tests run in the folder of their module. */
    private val android = File("..").canonicalFile
    private val library = File(android, "library/build.gradle.kts").readText()
    private val sample = File(android, "sample/build.gradle.kts").readText()
    private val parent = File(android, "../bindings/kotlin/pom.xml").readText()

    private fun property(name: String) = Regex("<$name>(.*)</$name>").find(parent)!!.groupValues[1]

    @Test
    fun `Gradle and Maven have the same versions`() {
        val catalog = File(android, "gradle/libs.versions.toml").readText()
        for (name in listOf("kotlin", "jna", "coroutines")) {
            assertTrue(catalog.contains("""$name = "${property("$name.version")}""""), name)
        }
        val version = Regex("<version>(.*)</version>").find(parent)!!.groupValues[1]
        assertTrue(library.contains("""version = "$version""""))
        val jvm = property("kotlin.compiler.jvmTarget")
        for (module in listOf(library, sample)) assertTrue(module.contains("JvmTarget.JVM_$jvm"))
    }

    @Test
    fun `Gradle's catalog has what the modules name`() {
        val catalog = File(android, "gradle/libs.versions.toml").readText()
        val defined = Regex("^([a-z-]+) = \\{", RegexOption.MULTILINE).findAll(catalog).map { it.groupValues[1] }.toSet()
        val files = listOf(File(android, "build.gradle.kts").readText(), library, sample)
        val named = files.flatMap { file ->
            Regex("libs\\.(?:plugins\\.)?([a-z.]+)").findAll(file).map { it.groupValues[1].replace('.', '-') }
        }.toSet()
        assertEquals(defined, named)
        // No version stands anywhere else.
        for (file in files) assertFalse(Regex("""[a-z]:[0-9]+\.[0-9]""").containsMatchIn(file))
        val wrapper = File(android, "gradle/wrapper/gradle-wrapper.properties").readText()
        assertTrue(Regex("gradle-8\\.[0-9.]+-bin\\.zip").containsMatchIn(wrapper))
    }

    @Test
    fun `Gradle's folders and modules are there`() {
        val settings = File(android, "settings.gradle.kts").readText()
        val modules = Regex("\":(\\w+)\"").findAll(settings).map { it.groupValues[1] }.toList()
        assertEquals(listOf("library", "sample"), modules)
        for (module in modules) assertTrue(File(android, "$module/src/main/AndroidManifest.xml").isFile)
        val folders = library.substringAfter("srcDirs(").substringBefore(")")
        val named = Regex("\"(.*)\"").findAll(folders).map { it.groupValues[1] }.toList()
        assertEquals(3, named.size)
        for (folder in named) assertTrue(File(android, "library/$folder").isDirectory, folder)
        assertTrue(File(android, "library/consumer-rules.pro").isFile)
        assertTrue(library.contains("""consumerProguardFiles("consumer-rules.pro")"""))
        assertTrue(library.contains("""namespace = "org.matrixmls.android""""))
    }

    @Test
    fun `manifests and resources parse and name what exists`() {
        val sources = File(android, "sample/src/main")
        val manifest = parse(File(sources, "AndroidManifest.xml"))
        assertEquals(listOf(".MainActivity"), manifest.names("activity"))
        assertEquals(listOf(".PushReceiver"), manifest.names("receiver"))
        for (name in manifest.names("activity") + manifest.names("receiver")) {
            assertTrue(File(sources, "kotlin/org/matrixmls/sample/android/${name.removePrefix(".")}.kt").isFile)
        }
        // Other apps cannot send it pushes.
        val receiver = manifest.getElementsByTagName("receiver").item(0) as Element
        assertEquals("android.permission.DUMP", receiver.getAttribute("android:permission"))
        val permissions = listOf("INTERNET", "POST_NOTIFICATIONS").map { "android.permission.$it" }
        assertEquals(permissions, manifest.names("uses-permission"))
        val application = manifest.getElementsByTagName("application").item(0) as Element
        for (attribute in listOf("android:dataExtractionRules", "android:networkSecurityConfig")) {
            val resource = application.getAttribute(attribute).removePrefix("@xml/")
            parse(File(sources, "res/xml/$resource.xml"))
        }
        assertEquals("false", application.getAttribute("android:allowBackup"))
        assertEquals(0, parse(File(android, "library/src/main/AndroidManifest.xml")).getElementsByTagName("uses-permission").length)
    }

    private fun Element.names(tag: String): List<String> = getElementsByTagName(tag).let { found ->
        (0 until found.length).map { (found.item(it) as Element).getAttribute("android:name") }
    }

    private fun parse(file: File): Element =
        DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file).documentElement
}
