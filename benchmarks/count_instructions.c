// A plugin for QEMU's user mode: counts instructions, and prints the number whenever the program closes a file descriptor
// of 1000000 or more, which cannot exist. benchmarks/arm64_guest.py does that before and after what is measured.
//
// The declarations are those of qemu-plugin.h, which Debian's packages of this version do not contain.

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))
#define CLOSE 57 // on arm64
#define FIRST_MARK 1000000

struct qemu_plugin_tb;
typedef void translated(uint64_t id, struct qemu_plugin_tb *block);
typedef void executed(unsigned cpu, void *data);
typedef void called(uint64_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated *callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed *callback, int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, called *callback);

EXPORT int qemu_plugin_version = 1;

static uint64_t count;

static void on_execution(unsigned cpu, void *instructions) {
    __atomic_fetch_add(&count, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *block) {
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_execution, 0, (void *)qemu_plugin_tb_n_insns(block));
}

static void on_call(uint64_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    if (number == CLOSE && (int32_t)a1 >= FIRST_MARK)
        fprintf(stderr, "mark %d %" PRIu64 "\n", (int32_t)a1 - FIRST_MARK, count);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
