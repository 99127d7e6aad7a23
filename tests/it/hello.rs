//! The two programs of `fixtures/hello`, byte by byte, and the proof that the committed files are these bytes.
//!
//! Both do the same without any library: print a greeting, print the file `/etc/hello/message`, and end with 0,
//! or with 1 when that file cannot be read. `DMOCI_BLESS=1 cargo test --test it hello::` writes the files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::Project;

const MESSAGE: &[u8] = b"/etc/hello/message\0";

/// What building the example prints outside any git repository.
const GOLDEN: &str = "\
image     registry.example/hello:1.0.0   sha256:1dc311e375c2a1c19dbd3c73c93c862fbfbc2887d7e0bf1956a7b87e1af87543
image     registry.example/hello:latest  sha256:1dc311e375c2a1c19dbd3c73c93c862fbfbc2887d7e0bf1956a7b87e1af87543
manifest  linux/amd64                    sha256:c7dd1f12bffeb68cf72d302804410997f09535a7b1a06b917118ac25cbde4ddf
config    linux/amd64                    sha256:fae5b37a97cbed9b7a9f5f794540b39f1feee6b425a0d5eac4c925142e74b95a
layer     linux/amd64:program            sha256:0b816d2513b4b00d6a63c780664ea7108422b14bbd771cd845ecab417aa61f74
layer     linux/amd64:content            sha256:0d589fd3af44cae81ad9970e104bd1b0d930d51d6da587012153e9915ca042d6
layer     linux/amd64:users              sha256:f34dfc5d234302c91422fddfbad5abc9a1a6cc62de7b7f8a23b8ef22cf3d5968
manifest  linux/arm64                    sha256:7e131c8f0d08430cde734f8a1f18b5015f84efed0de777f643659828d9cdc6de
config    linux/arm64                    sha256:c79edd4384979af77d8fd85b2bcffb3e306582688df3c905703231e9f9af05ed
layer     linux/arm64:program            sha256:48e783ee5a3ce9d3ffb446ee2ab5b0a044f31df9430f6ec9035199fefbc0cf1e
layer     linux/arm64:content            sha256:0d589fd3af44cae81ad9970e104bd1b0d930d51d6da587012153e9915ca042d6
layer     linux/arm64:users              sha256:f34dfc5d234302c91422fddfbad5abc9a1a6cc62de7b7f8a23b8ef22cf3d5968
";

/// Where the one segment of each program is mapped: a multiple of every page size in use (64 KiB on some arm64).
const BASE: u64 = 0x10000;
/// ELF header and one program header; the code follows.
const HEADERS: usize = 64 + 56;
/// `e_machine` of the ELF specification.
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

#[test]
fn committed_programs_are_these_bytes() {
    let programs = [
        ("hello-amd64", program(EM_X86_64, amd64, b"hello from linux/amd64\n")),
        ("hello-arm64", program(EM_AARCH64, arm64, b"hello from linux/arm64\n")),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello/bin");
    for (name, bytes) in programs {
        let path = folder.join(name);
        if std::env::var_os("DMOCI_BLESS").is_some() {
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} is not what the listing says");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o100,
            0o100,
            "{name} is not executable"
        );
    }
}

/// Rules 1 as a whole: a change of any of these digests is a new number of the rules.
#[test]
fn golden_digests() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello");
    let mut project = Project::new();
    for name in ["dmoci.toml", "share/about.txt", "share/verses/one.txt", "share/verses/two.txt"] {
        project = project.file(name, fs::read(fixture.join(name)).unwrap());
    }
    for name in ["bin/hello-amd64", "bin/hello-arm64"] {
        project = project.file(name, fs::read(fixture.join(name)).unwrap());
        fs::set_permissions(project.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let found = project.dmoci(&["build"]).ok().stdout;
    assert_eq!(found, GOLDEN, "\n{found}");
}

/// A static ELF program with one segment, readable and executable: headers, code, greeting, path.
fn program(machine: u16, assemble: fn(&[u8]) -> Vec<u8>, greeting: &[u8]) -> Vec<u8> {
    let code = assemble(greeting);
    let size = u64::try_from(HEADERS + code.len() + greeting.len() + MESSAGE.len()).unwrap();
    let entry = BASE + u64::try_from(HEADERS).unwrap();
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01"); // 64 bits, little-endian, version 1
    elf.extend([0; 9]);
    for half in [2, machine] {
        elf.extend(half.to_le_bytes()); // e_type: an executable; e_machine
    }
    elf.extend(1u32.to_le_bytes()); // e_version
    for word in [entry, 64, 0] {
        elf.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    elf.extend(0u32.to_le_bytes()); // e_flags
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes()); // sizes and numbers of headers
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes()); // p_type: load; p_flags: read and execute
    }
    for word in [0, BASE, BASE, size, size, BASE] {
        elf.extend(word.to_le_bytes()); // offset, addresses, sizes in file and memory, alignment
    }
    assert_eq!(elf.len(), HEADERS);
    [&elf[..], &code, greeting, MESSAGE].concat()
}

/// x86-64: the number of the system call in eax, its arguments in edi, rsi and edx.
fn amd64(greeting: &[u8]) -> Vec<u8> {
    let mut code: Vec<u8> = Vec::new();
    let (mut data, mut fails) = (Vec::new(), Vec::new());
    code.extend([0xb8, 1, 0, 0, 0]); //                mov eax, 1 (write)
    code.extend([0xbf, 1, 0, 0, 0]); //                mov edi, 1 (standard output)
    code.extend([0x48, 0x8d, 0x35, 0, 0, 0, 0]); //    lea rsi, [rip + greeting]
    data.push((code.len(), 0));
    code.push(0xba); //                                mov edx, length
    code.extend(u32::try_from(greeting.len()).unwrap().to_le_bytes());
    code.extend([0x0f, 0x05]); //                      syscall
    code.extend([0xb8, 2, 0, 0, 0]); //                mov eax, 2 (open)
    code.extend([0x48, 0x8d, 0x3d, 0, 0, 0, 0]); //    lea rdi, [rip + path]
    data.push((code.len(), greeting.len()));
    code.extend([0x31, 0xf6]); //                      xor esi, esi (for reading)
    code.extend([0x0f, 0x05]); //                      syscall
    code.extend([0x85, 0xc0, 0x78, 0]); //             test eax, eax; js fail
    fails.push(code.len());
    code.extend([0x89, 0xc7]); //                      mov edi, eax
    code.extend([0x31, 0xc0]); //                      xor eax, eax (read)
    code.extend([0x48, 0x81, 0xec, 0, 0x10, 0, 0]); // sub rsp, 4096
    code.extend([0x48, 0x89, 0xe6]); //                mov rsi, rsp
    code.extend([0xba, 0, 0x10, 0, 0]); //             mov edx, 4096
    code.extend([0x0f, 0x05]); //                      syscall
    code.extend([0x85, 0xc0, 0x78, 0]); //             test eax, eax; js fail
    fails.push(code.len());
    code.extend([0x89, 0xc2]); //                      mov edx, eax
    code.extend([0xb8, 1, 0, 0, 0]); //                mov eax, 1 (write)
    code.extend([0x89, 0xc7]); //                      mov edi, eax (standard output)
    code.extend([0x0f, 0x05]); //                      syscall
    code.extend([0x31, 0xff]); //                      xor edi, edi (success)
    code.extend([0xeb, 5]); //                         jmp over the next line
    let fail = code.len();
    code.extend([0xbf, 1, 0, 0, 0]); //          fail: mov edi, 1 (failure)
    code.extend([0xb8, 60, 0, 0, 0]); //               mov eax, 60 (exit)
    code.extend([0x0f, 0x05]); //                      syscall
    for (next, offset) in data {
        let distance = u32::try_from(code.len() + offset - next).unwrap();
        code[next - 4..next].copy_from_slice(&distance.to_le_bytes());
    }
    for next in fails {
        code[next - 1] = u8::try_from(fail - next).unwrap();
    }
    code
}

/// AArch64: the number of the system call in x8, its arguments in x0, x1 and x2.
fn arm64(greeting: &[u8]) -> Vec<u8> {
    const FAIL: u32 = 23;
    const LENGTH: u32 = 26;
    const SVC: u32 = 0xd400_0001;
    let mov = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let length = u32::try_from(greeting.len()).unwrap();
    // adr register, data + offset; the instruction is the one with this number.
    let adr = |register: u32, number: u32, offset: u32| {
        let distance = (LENGTH - number) * 4 + offset;
        0x1000_0000 | (distance & 3) << 29 | (distance >> 2) << 5 | register
    };
    // tbnz x0, #63, fail: taken when the result is an error.
    let fail_if_negative = |number: u32| 0xb7f8_0000 | (FAIL - number) << 5;
    let code = [
        mov(0, 1),         //      mov x0, 1 (standard output)
        adr(1, 1, 0),      //      adr x1, greeting
        mov(2, length),    //      mov x2, length
        mov(8, 64),        //      mov x8, 64 (write)
        SVC,               //      svc 0
        0x9280_0c60,       //      mov x0, -100 (the working directory)
        adr(1, 6, length), //      adr x1, path
        mov(2, 0),         //      mov x2, 0 (for reading)
        mov(8, 56),        //      mov x8, 56 (openat)
        SVC,               //      svc 0
        fail_if_negative(10),
        0xd140_07ff,  //      sub sp, sp, 4096
        0x9100_03e1,  //      mov x1, sp
        mov(2, 4096), //      mov x2, 4096
        mov(8, 63),   //      mov x8, 63 (read)
        SVC,          //      svc 0
        fail_if_negative(16),
        0xaa00_03e2, //      mov x2, x0
        mov(0, 1),   //      mov x0, 1 (standard output)
        mov(8, 64),  //      mov x8, 64 (write)
        SVC,         //      svc 0
        mov(0, 0),   //      mov x0, 0 (success)
        0x1400_0002, //      b over the next line
        mov(0, 1),   // fail: mov x0, 1 (failure)
        mov(8, 93),  //      mov x8, 93 (exit)
        SVC,         //      svc 0
    ];
    assert_eq!(code.len(), usize::try_from(LENGTH).unwrap());
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}
