/** That nothing is exported without being called in a test, and that its documentation arrives. */
package org.matrixmls.tests

import java.nio.file.Path
import kotlin.io.path.extension
import kotlin.io.path.readLines
import kotlin.io.path.readText
import kotlin.io.path.walk
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The listing of the exported API; tests run in the folder of their module. */
val apiListing: Path = Path.of("../../api.txt")

/** An exported call: what it belongs to, if anything, and its name as Kotlin has it. */
private data class Call(val owner: String?, val kind: String, val name: String)

class ApiTest {
    private fun exported(): List<Call> {
        var owner: String? = null
        return apiListing.readLines().mapNotNull { line ->
            val words = line.substringBefore('(').split(' ').filter { it.isNotEmpty() && it != "async" }
            when (words.firstOrNull()) {
                "object", "callback", "error", "enum" -> { owner = words[1]; null }
                "function" -> Call(null, "function", camelCase(words[1]))
                "constructor", "method" -> Call(owner, words[0], camelCase(words[1]))
                else -> null
            }
        }
    }

    private fun camelCase(name: String) = name.replace(Regex("_(.)")) { it.groupValues[1].uppercase() }

    @Test
    fun `every exported function is called in a test`() {
        val sources = sources()
        val calls = exported()
        assertTrue(calls.size > 30, "api.txt lists $calls")
        val missing = calls.filterNot { call ->
            when {
                call.kind == "constructor" -> sources.contains("${call.owner}.${call.name}(")
                call.kind == "function" -> Regex("""\b${call.name}\(""").containsMatchIn(sources)
                // What the app implements is called by Rust.
                call.owner in listOf("LogSink", "UpdateObserver", "RollbackGuard", "AttachmentProgress") -> sources.contains("override fun ${call.name}(")
                else -> Regex("""\.${call.name}\(""").containsMatchIn(sources)
            }
        }
        assertEquals(emptyList<Call>(), missing)
    }

    @Test
    fun `every update and every result is expected in a test`() {
        val sources = sources()
        val names = listOf("Update", "ToDeviceResult", "EventOutcome", "RequestOutcome", "SendPlan", "BackupState", "RestoreScope")
        val variants = names.flatMap { name ->
            val lines = apiListing.readLines().dropWhile { !it.startsWith("enum $name ") }.drop(1)
            lines.takeWhile { it.startsWith("  ") }.map { "$name.${it.trim().substringBefore(' ')}" }
        }
        assertTrue(variants.size > 25, variants.toString())
        assertEquals(emptyList<String>(), variants.filterNot { Regex("""\b${Regex.escape(it)}\b""").containsMatchIn(sources) })
    }

    private fun sources(): String =
        Path.of("src/test/kotlin").walk().filter { it.extension == "kt" }.map { it.readText() }.joinToString("\n")

    @Test
    fun `documentation arrives in KDoc`() {
        val generated = Path.of("../library/generated/org/matrixmls/matrix_mls.kt").readText()
        val before = generated.substringBefore("suspend fun `prepareToSend`()").takeLast(1_000)
        assertTrue(before.contains("* Does the next step towards a group whose members are those of the room"), before)
        assertTrue(generated.contains("* 32 bytes from the platform's key store"))
    }

    @Test
    fun `documentation speaks Kotlin, and codes are spelled as at run time`() {
        val comments = Path.of("../library/generated/org/matrixmls/matrix_mls.kt").readLines().map { it.trim() }
            .filter { it.startsWith("* ") }
        assertTrue(comments.size > 1_000, "${comments.size}")
        val rust = listOf("::", "```", "crate", "MlsError", "[`")
        assertEquals(emptyList<String>(), comments.filter { line -> rust.any { line.contains(it) } })
        val listed = Path.of("../../../docs/errors.md").readLines().mapNotNull { Regex("^\\| `(\\w+)` \\|").find(it)?.groupValues?.get(1) }
        assertTrue(listed.size > 120, "$listed")
        val camel = listed.filter { it.contains('_') }.map { camelCase(it) }.toSet()
        val words = comments.flatMap { Regex("`\"?([A-Za-z_]+)\"?`").findAll(it).map { word -> word.groupValues[1] } }
        // These are names of calls or settings, too.
        val both = setOf("readOnce")
        assertEquals(emptyList<String>(), words.filter { it in camel && it !in both })
        assertTrue(words.contains("backup_exists") && words.contains("members_unknown"))
    }
}
