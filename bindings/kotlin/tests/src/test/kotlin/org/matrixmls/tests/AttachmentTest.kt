/** Files that are sent encrypted. */
package org.matrixmls.tests

import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.CopyOnWriteArrayList
import kotlin.io.path.readBytes
import kotlin.io.path.writeBytes
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.AttachmentKey
import org.matrixmls.AttachmentProgress
import org.matrixmls.MlsException
import org.matrixmls.code
import org.matrixmls.decryptAttachment
import org.matrixmls.decryptAttachmentFile
import org.matrixmls.encryptAttachment
import org.matrixmls.encryptAttachmentFile

class AttachmentTest {
    private class Steps : AttachmentProgress {
        val all = CopyOnWriteArrayList<Pair<ULong, ULong>>()

        override fun onProgress(done: ULong, total: ULong) {
            all.add(done to total)
        }
    }

    private fun Path.file(name: String) = resolve(name).toString()

    @Test
    fun `a picture is encrypted and opens with what the message says`() {
        val picture = ByteArray(10_000) { it.toByte() }
        val encrypted = encryptAttachment(picture)
        val file = JSONObject(encrypted.key.encryptedFile("mxc://example.org/abc"))
        assertEquals("mxc://example.org/abc", file.getString("url"))
        assertEquals("v2", file.getString("v"))
        val key = AttachmentKey.parse(file.toString())
        assertArrayEquals(picture, decryptAttachment(encrypted.bytes, key))
        encrypted.bytes[0] = (encrypted.bytes[0] + 1).toByte()
        val changed = assertThrows(MlsException.Rejected::class.java) { decryptAttachment(encrypted.bytes, key) }
        assertEquals("attachment_changed", changed.code)
        val other = assertThrows(MlsException.Rejected::class.java) { AttachmentKey.parse("{}") }
        assertEquals("bad_encrypted_file", other.code)
        assertFalse(file.getJSONObject("key").getString("k") in encrypted.toString())
    }

    @Test
    fun `a file of any size goes from disk to disk`(@TempDir directory: Path) = test {
        val plain = directory.resolve("plain")
        plain.writeBytes(ByteArray(1_000_000) { 7 })
        val steps = Steps()
        val key = encryptAttachmentFile(plain.toString(), directory.file("sealed"), steps)
        assertEquals(1_000_000uL to 1_000_000uL, steps.all.last())
        assertTrue(steps.all.size > 3, steps.all.toString())
        decryptAttachmentFile(directory.file("sealed"), directory.file("opened"), key, null)
        assertArrayEquals(plain.readBytes(), directory.resolve("opened").readBytes())
        Files.delete(directory.resolve("opened"))
        directory.resolve("sealed").writeBytes(ByteArray(1_000_000))
        val changed = runCatching {
            decryptAttachmentFile(directory.file("sealed"), directory.file("opened"), key, null)
        }
        assertEquals("attachment_changed", (changed.exceptionOrNull() as MlsException).code)
        assertFalse(Files.exists(directory.resolve("opened")))
    }
}
