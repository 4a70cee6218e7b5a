//! The imports that a guest may have, by name and type: the whole list.
//!
//! Module `etl` is the host's own (log, clock, random numbers, counters); `wasi_snapshot_preview1` is a shim for guests whose
//! toolchain drags it in: standard output becomes log lines, the clock and random numbers work, and files, sockets, arguments
//! and environment do not exist. A module that imports anything else is refused when it is loaded, by the name of what it asked
//! for. The engine provides exactly what stands here: its table is built from [`OFFERS`].

use wasmparser::ValType;

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;

/// One function that guests may import.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The import's module name.
    pub module: &'static str,
    /// The import's field name.
    pub name: &'static str,
    pub(crate) params: &'static [ValType],
    pub(crate) results: &'static [ValType],
    pub(crate) function: HostFunction,
}

/// What the host does when the import is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostFunction {
    /// `etl.log(level, ptr, len)`
    Log,
    /// `etl.now() -> Unix ms`
    Now,
    /// `etl.random() -> 64 bits`
    Random,
    /// `etl.counter(ptr, len, delta)`
    Counter,
    /// `fd_write`: standard output and error become log lines.
    FdWrite,
    /// `fd_fdstat_get`: the three standard streams are character devices.
    FdStat,
    /// `clock_time_get`
    ClockTime,
    /// `clock_res_get`
    ClockResolution,
    /// `random_get`
    RandomGet,
    /// `environ_sizes_get` and `args_sizes_get`: there are none.
    NoStrings,
    /// `proc_exit`: ends the call as a trap.
    Exit,
    /// Succeeds and does nothing.
    Nothing,
    /// Fails with this WASI error number.
    Refuse(i32),
}

/// The WASI error numbers that the shim answers with.
pub(crate) mod errno {
    pub(crate) const BADF: i32 = 8;
    pub(crate) const FAULT: i32 = 21;
    pub(crate) const INVAL: i32 = 28;
    pub(crate) const NOTSUP: i32 = 58;
    pub(crate) const NOTCAPABLE: i32 = 76;
}

const ETL: &str = "etl";
const WASI: &str = "wasi_snapshot_preview1";

const fn own(
    name: &'static str,
    params: &'static [ValType],
    results: &'static [ValType],
    function: HostFunction,
) -> Offer {
    Offer {
        module: ETL,
        name,
        params,
        results,
        function,
    }
}

const fn wasi(name: &'static str, params: &'static [ValType], function: HostFunction) -> Offer {
    Offer {
        module: WASI,
        name,
        params,
        results: &[I32],
        function,
    }
}

use HostFunction as F;

/// Everything that is offered.
pub const OFFERS: &[Offer] = &[
    own("log", &[I32, I32, I32], &[], F::Log),
    own("now", &[], &[I64], F::Now),
    own("random", &[], &[I64], F::Random),
    own("counter", &[I32, I32, I64], &[], F::Counter),
    wasi("args_get", &[I32, I32], F::Nothing),
    wasi("args_sizes_get", &[I32, I32], F::NoStrings),
    wasi("environ_get", &[I32, I32], F::Nothing),
    wasi("environ_sizes_get", &[I32, I32], F::NoStrings),
    wasi("clock_res_get", &[I32, I32], F::ClockResolution),
    wasi("clock_time_get", &[I32, I64, I32], F::ClockTime),
    wasi("fd_advise", &[I32, I64, I64, I32], F::Refuse(errno::BADF)),
    wasi("fd_allocate", &[I32, I64, I64], F::Refuse(errno::BADF)),
    wasi("fd_close", &[I32], F::Refuse(errno::BADF)),
    wasi("fd_datasync", &[I32], F::Refuse(errno::BADF)),
    wasi("fd_fdstat_get", &[I32, I32], F::FdStat),
    wasi("fd_fdstat_set_flags", &[I32, I32], F::Refuse(errno::BADF)),
    wasi(
        "fd_fdstat_set_rights",
        &[I32, I64, I64],
        F::Refuse(errno::BADF),
    ),
    wasi("fd_filestat_get", &[I32, I32], F::Refuse(errno::BADF)),
    wasi("fd_filestat_set_size", &[I32, I64], F::Refuse(errno::BADF)),
    wasi(
        "fd_filestat_set_times",
        &[I32, I64, I64, I32],
        F::Refuse(errno::BADF),
    ),
    wasi(
        "fd_pread",
        &[I32, I32, I32, I64, I32],
        F::Refuse(errno::BADF),
    ),
    wasi("fd_prestat_get", &[I32, I32], F::Refuse(errno::BADF)),
    wasi(
        "fd_prestat_dir_name",
        &[I32, I32, I32],
        F::Refuse(errno::BADF),
    ),
    wasi(
        "fd_pwrite",
        &[I32, I32, I32, I64, I32],
        F::Refuse(errno::BADF),
    ),
    wasi("fd_read", &[I32, I32, I32, I32], F::Refuse(errno::BADF)),
    wasi(
        "fd_readdir",
        &[I32, I32, I32, I64, I32],
        F::Refuse(errno::BADF),
    ),
    wasi("fd_renumber", &[I32, I32], F::Refuse(errno::BADF)),
    wasi("fd_seek", &[I32, I64, I32, I32], F::Refuse(errno::BADF)),
    wasi("fd_sync", &[I32], F::Refuse(errno::BADF)),
    wasi("fd_tell", &[I32, I32], F::Refuse(errno::BADF)),
    wasi("fd_write", &[I32, I32, I32, I32], F::FdWrite),
    wasi(
        "path_create_directory",
        &[I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_filestat_get",
        &[I32, I32, I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_filestat_set_times",
        &[I32, I32, I32, I32, I64, I64, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_link",
        &[I32, I32, I32, I32, I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_open",
        &[I32, I32, I32, I32, I32, I64, I64, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_readlink",
        &[I32, I32, I32, I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_remove_directory",
        &[I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_rename",
        &[I32, I32, I32, I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_symlink",
        &[I32, I32, I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "path_unlink_file",
        &[I32, I32, I32],
        F::Refuse(errno::NOTCAPABLE),
    ),
    wasi(
        "poll_oneoff",
        &[I32, I32, I32, I32],
        F::Refuse(errno::NOTSUP),
    ),
    Offer {
        module: WASI,
        name: "proc_exit",
        params: &[I32],
        results: &[],
        function: F::Exit,
    },
    wasi("proc_raise", &[I32], F::Refuse(errno::NOTSUP)),
    wasi("random_get", &[I32, I32], F::RandomGet),
    wasi("sched_yield", &[], F::Nothing),
    wasi("sock_accept", &[I32, I32, I32], F::Refuse(errno::BADF)),
    wasi(
        "sock_recv",
        &[I32, I32, I32, I32, I32, I32],
        F::Refuse(errno::BADF),
    ),
    wasi(
        "sock_send",
        &[I32, I32, I32, I32, I32],
        F::Refuse(errno::BADF),
    ),
    wasi("sock_shutdown", &[I32, I32], F::Refuse(errno::BADF)),
];

/// The offer of this name, if there is one.
pub(crate) fn find(module: &str, name: &str) -> Option<&'static Offer> {
    OFFERS
        .iter()
        .find(|offer| offer.module == module && offer.name == name)
}

/// What is offered, in one line for an error: the host's own functions by name, the shim as a whole.
pub(crate) fn summary() -> String {
    let own: Vec<String> = OFFERS
        .iter()
        .filter(|offer| offer.module == ETL)
        .map(|offer| format!("etl.{}", offer.name))
        .collect();
    format!(
        "{}, and WASI preview 1 ({WASI}) without files and sockets",
        own.join(", ")
    )
}

impl Offer {
    /// Whether what it answers can differ between two runs.
    pub(crate) fn is_nondeterministic(&self) -> bool {
        matches!(
            self.function,
            F::Now | F::Random | F::ClockTime | F::RandomGet
        )
    }
}
