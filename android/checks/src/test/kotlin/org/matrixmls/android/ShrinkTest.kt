/**
 * Android's own compilers on the library: D8 takes all of it for Android 7, and R8 with the rules that
 * the AAR brings leaves a program that works.
 */
package org.matrixmls.android

import com.android.tools.r8.Version
import java.io.File
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.TimeUnit
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class ShrinkTest {
    @TempDir
    lateinit var directory: Path

    private val java = File(System.getProperty("java.home"), "bin/java").path
    private val rules = File("../library/consumer-rules.pro").canonicalFile
    private val dependencies = File(property("matrixmls.classpath.file")).readText().trim().split(File.pathSeparator)

    private fun property(name: String) = checkNotNull(System.getProperty(name)) { "$name: run this with Maven" }

    private class Ran(val status: Int, val said: String)

    private fun run(vararg command: String): Ran {
        val log = Files.createTempFile(directory, "out", ".txt").toFile()
        val process = ProcessBuilder(*command).redirectErrorStream(true).redirectOutput(log).start()
        check(process.waitFor(5, TimeUnit.MINUTES)) { "${command.joinToString(" ")} does not end" }
        return Ran(process.exitValue(), log.readText())
    }

    private fun tool(name: String, vararg arguments: String): Ran {
        val jar = File(Version::class.java.protectionDomain.codeSource.location.toURI()).path
        return run(java, "-Xmx1g", "-cp", jar, "com.android.tools.r8.$name", *arguments)
    }

    /** A folder of classes as the archive that the tools want. */
    private fun jar(name: String, folder: File, take: (String) -> Boolean = { true }): String {
        val jar = directory.resolve("$name.jar").toFile()
        ZipOutputStream(jar.outputStream()).use { zip ->
            for (file in folder.walk().filter { it.isFile }) {
                val entry = file.relativeTo(folder).invariantSeparatorsPath
                if (!entry.endsWith(".class") || !take(entry)) continue
                zip.putNextEntry(ZipEntry(entry))
                zip.write(file.readBytes())
            }
        }
        return jar.path
    }

    /** What an app would have: the library, its dependencies, and the Android side without the sample. */
    private fun libraries(): List<String> {
        val ours = dependencies.map { if (File(it).isDirectory) jar("matrix-mls", File(it)) else it }
        return ours + jar("android", File(property("matrixmls.classes"))) { !it.contains("/sample/") }
    }

    private fun consumer() = jar("consumer", File(property("matrixmls.test.classes"))) { it.contains("/consumer/") }

    @Test
    fun `D8 takes all of it for Android 7`() {
        val out = directory.resolve("dex.zip")
        val sample = jar("sample", File(property("matrixmls.classes"))) { it.contains("/sample/") }
        val d8 = tool(
            "D8", "--release", "--min-api", "24", "--lib", property("matrixmls.android.jar"),
            "--output", out.toString(), sample, *libraries().toTypedArray(),
        )
        assertEquals(0, d8.status, d8.said)
        val about = d8.said.lines().filter { it.contains("org/matrixmls") || it.contains("org.matrixmls") }
        assertEquals(emptyList<String>(), about, "what D8 says of our classes")
        assertTrue(Files.size(out) > 100_000)
    }

    /** Shrinks the library with a consumer, and runs what is left. */
    private fun shrunk(vararg more: String): Ran {
        val out = directory.resolve("shrunk.jar")
        val keep = directory.resolve("app.pro").toFile()
        keep.writeText(
            """
            -keep class org.matrixmls.android.consumer.ConsumerKt { public static void main(java.lang.String[]); }
            # The app's own business, whoever's library it uses: this one runs on a JVM.
            -dontwarn **
            """.trimIndent(),
        )
        val r8 = tool(
            "R8", "--classfile", "--release", "--lib", System.getProperty("java.home"),
            "--classpath", property("matrixmls.android.jar"),
            "--pg-conf", keep.path, *more, "--output", out.toString(), consumer(), *libraries().toTypedArray(),
        )
        assertEquals(0, r8.status, r8.said)
        return run(
            java, "-Djna.library.path=${property("jna.library.path")}", "-cp", out.toString(),
            "org.matrixmls.android.consumer.ConsumerKt",
        )
    }

    @Test
    fun `with our rules what R8 leaves encrypts, decrypts, fails as it should and is called back`() {
        val ran = shrunk("--pg-conf", rules.path)
        val said = ran.said.lines().filter { it.isNotEmpty() }
        assertEquals(listOf("""decrypted {"body":"shrunk"}""", "failed bad_room_id", "called back"), said, ran.said)
        assertEquals(0, ran.status)
        val all = libraries().sumOf { File(it).length() }
        val left = Files.size(directory.resolve("shrunk.jar"))
        assertTrue(left < all, "$left of $all bytes are left")
    }

    @Test
    fun `without them it does not work`() {
        assertNotEquals(0, shrunk().status)
    }
}
