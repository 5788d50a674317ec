/** The count in its file, with a key store that is made up here, and the machine that counts with it. */
package org.matrixmls.android

import java.io.File
import java.io.IOException
import java.nio.file.Path
import java.security.GeneralSecurityException
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.MachineConfig
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.StoreKey

class KeystoreRollbackGuardTest {
    @TempDir
    lateinit var directory: Path

    private val file: File get() = directory.resolve("matrix-mls.count").toFile()
    private val wrapper = MemoryWrapper()

    @Test
    fun `a count is kept sealed, and replaced`() {
        val guard = KeystoreRollbackGuard(file, wrapper)
        assertNull(guard.load())
        for (count in listOf(1uL, 2uL, 300uL, ULong.MAX_VALUE)) {
            guard.store(count)
            assertEquals(count, KeystoreRollbackGuard(file, wrapper).load())
            assertEquals(listOf(file.name), directory.toFile().list()!!.toList())
            assertTrue(file.length() > 8, "the file holds it sealed")
        }
    }

    @Test
    fun `what cannot be opened is no count`() {
        val guard = KeystoreRollbackGuard(file, wrapper)
        guard.store(7uL)
        val whole = file.readBytes()
        wrapper.works = false
        assertNull(guard.load())
        assertThrows<GeneralSecurityException> { guard.store(8uL) }
        wrapper.works = true
        assertEquals(7uL, guard.load())
        file.writeBytes(whole.clone().also { it[14] = (it[14] + 1).toByte() })
        assertNull(guard.load())
        file.writeBytes(whole)
        wrapper.key = null
        assertNull(guard.load())
        val nowhere = KeystoreRollbackGuard(directory.resolve("no/such/directory/count").toFile(), wrapper)
        assertNull(nowhere.load())
        assertThrows<IOException> { nowhere.store(1uL) }
    }

    @Test
    fun `a machine opens with it`() = runBlocking {
        val store = directory.resolve("store").toString()
        val config = MachineConfig(
            "@alice:example.org", "PHONE", store, StoreKey.Raw(ByteArray(32) { 7 }), Publishing.ALONE,
        )
        for (round in 0 until 2) {
            val machine = MlsMachine.openGuarded(config, KeystoreRollbackGuard(file, wrapper))
            assertEquals("PHONE", machine.deviceId(), "$round")
            machine.shutdown()
        }
    }
}
