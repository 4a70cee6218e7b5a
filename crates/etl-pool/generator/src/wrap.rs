//! Makes any module one that the pool takes: ABI v1 around some of its functions.
//!
//! The first byte of a record's value chooses the function. It is called with arguments that the seed decides, and the answer is a digest of its
//! results and of every byte of memory, and how many pages there are. What is added comes last, so that no index moves.

use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, HeapType,
    Instruction as I, MemArg, MemArgTarget, Module, RawSection, TypeSection, ValType,
};
use wasmparser::{FuncType, Parser, Payload, TypeRef};

use crate::generate::Random;

/// Functions of one module that can be called.
pub const MOST_FUNCTIONS: usize = 4;

/// Where frames are put, and where the reply stands.
const FRAME: i32 = 1_024;
const REPLY: i32 = 2_048;

/// A module of ABI v1.
pub struct Wrapped {
    pub bytes: Vec<u8>,
    /// How many of its functions can be called.
    pub functions: u8,
}

/// Wraps a module that has a memory and a function of its own.
pub fn wrap(bytes: &[u8], seed: u64) -> Result<Wrapped, String> {
    let problem = |error: &dyn std::fmt::Display| format!("seed {seed}: {error}");
    let mut module = Module::new();
    let mut random = Random::new(!seed);
    let (mut signatures, mut functions) = (Vec::<FuncType>::new(), Vec::<u32>::new());
    let (mut first_type, mut imported, mut wrapped) = (0, 0, 0);
    let mut exported = false;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| problem(&error))?;
        if matches!(
            payload,
            Payload::StartSection { .. }
                | Payload::ElementSection(_)
                | Payload::DataCountSection { .. }
                | Payload::CodeSectionStart { .. }
        ) && !exported
        {
            exported = true;
            module.section(&exports(functions.len() as u32));
        }
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    for ty in group.map_err(|error| problem(&error))?.into_types() {
                        signatures.push(ty.unwrap_func().clone());
                    }
                }
                let mut types = TypeSection::new();
                RoundtripReencoder
                    .parse_type_section(&mut types, section)
                    .map_err(|error| problem(&error))?;
                first_type = types.len();
                types.ty().function([ValType::I32], [ValType::I32]);
                types
                    .ty()
                    .function([ValType::I32, ValType::I32], [ValType::I64]);
                module.section(&types);
            }
            Payload::ImportSection(ref section) => {
                for import in section.clone().into_imports() {
                    if let TypeRef::Func(ty) = import.map_err(|error| problem(&error))?.ty {
                        functions.push(ty);
                        imported += 1;
                    }
                }
                raw(&mut module, &payload, bytes);
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    functions.push(ty.map_err(|error| problem(&error))?);
                }
                let mut declared = FunctionSection::new();
                RoundtripReencoder
                    .parse_function_section(&mut declared, section)
                    .map_err(|error| problem(&error))?;
                declared.function(first_type).function(first_type + 1);
                module.section(&declared);
            }
            // The host sees the memory and the two functions alone.
            Payload::ExportSection(_) | Payload::CustomSection(_) => {}
            Payload::CodeSectionStart {
                unchecked_range, ..
            } => {
                let mut code = CodeSection::new();
                let section = wasmparser::CodeSectionReader::new(wasmparser::BinaryReader::new(
                    part(bytes, &unchecked_range),
                    unchecked_range.start,
                ))
                .map_err(|error| problem(&error))?;
                RoundtripReencoder
                    .parse_code_section(&mut code, section)
                    .map_err(|error| problem(&error))?;
                let mut chosen: Vec<u32> = (imported..functions.len() as u32).collect();
                while chosen.len() > MOST_FUNCTIONS {
                    chosen.swap_remove(random.below(chosen.len() as u64) as usize);
                }
                wrapped = chosen.len() as u8;
                let chosen: Vec<(u32, &FuncType)> = chosen
                    .into_iter()
                    .map(|index| (index, &signatures[functions[index as usize] as usize]))
                    .collect();
                code.function(&allocate())
                    .function(&process(&chosen, &mut random));
                module.section(&code);
            }
            Payload::CodeSectionEntry(_) => {}
            other => raw(&mut module, &other, bytes),
        }
    }
    Ok(Wrapped {
        bytes: module.finish(),
        functions: wrapped,
    })
}

/// A section as it is.
fn raw(module: &mut Module, payload: &Payload<'_>, bytes: &[u8]) {
    if let Some((id, range)) = payload.as_section() {
        module.section(&RawSection {
            id,
            data: part(bytes, &range),
        });
    }
}

/// A range of the module. It has been parsed, so it is there.
fn part<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    bytes
        .get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

fn exports(functions: u32) -> ExportSection {
    let mut exports = ExportSection::new();
    exports
        .export("memory", ExportKind::Memory, 0)
        .export("etl_alloc_v1", ExportKind::Func, functions)
        .export("etl_process_v1", ExportKind::Func, functions + 1);
    exports
}

/// Room for one frame, for which there must be a page.
fn allocate() -> Function {
    let mut f = Function::new([]);
    f.instructions()
        .memory_size(0)
        .i32_eqz()
        .if_(BlockType::Empty)
        .i32_const(1)
        .memory_grow(0)
        .i32_const(-1)
        .i32_eq()
        .if_(BlockType::Empty)
        .unreachable()
        .end()
        .end()
        .i32_const(FRAME)
        .end();
    f
}

/// Locals of the second function, behind its two parameters.
const POINTER: u32 = 0;
const DIGEST: u32 = 2;
const CHOICE: u32 = 3;
const PLACE: u32 = 4;
const END: u32 = 5;
const LANES: u32 = 6;

fn process(functions: &[(u32, &FuncType)], random: &mut Random) -> Function {
    let mut f = Function::new([(1, ValType::I64), (3, ValType::I32), (1, ValType::V128)]);
    let at = |offset| MemArg {
        offset,
        align: 0,
        target: MemArgTarget::Memory(0),
        ordering: None,
    };
    // The first byte of the first record's value: its offset in the frame stands 40 bytes into its entry, which is behind 16 bytes of header.
    f.instructions()
        .local_get(POINTER)
        .local_get(POINTER)
        .i32_load(at(16 + 40))
        .i32_add()
        .i32_load8_u(at(0))
        .local_set(CHOICE);
    for (number, (index, ty)) in functions.iter().enumerate() {
        f.instructions()
            .local_get(CHOICE)
            .i32_const(number as i32)
            .i32_eq()
            .if_(BlockType::Empty);
        for &parameter in ty.params() {
            argument(&mut f, parameter, random);
        }
        f.instructions().call(*index);
        for &result in ty.results().iter().rev() {
            digest_result(&mut f, result);
        }
        f.instructions().end();
    }
    // Every word of memory.
    f.instructions()
        .memory_size(0)
        .i32_const(16)
        .i32_shl()
        .local_set(END)
        .loop_(BlockType::Empty)
        .local_get(PLACE)
        .i64_load(at(0));
    mix(&mut f);
    f.instructions()
        .local_get(PLACE)
        .i32_const(8)
        .i32_add()
        .local_tee(PLACE)
        .local_get(END)
        .i32_lt_u()
        .br_if(0)
        .end();
    let size = 48;
    let words = [(0, 0x524c_5445), (4, 1), (8, 1), (12, size)];
    let entry = [(16, 3), (20, 0), (24, 32), (28, 16)];
    for (offset, word) in words.into_iter().chain(entry) {
        f.instructions()
            .i32_const(REPLY)
            .i32_const(word)
            .i32_store(at(offset));
    }
    f.instructions()
        .i32_const(REPLY)
        .local_get(DIGEST)
        .i64_store(at(32))
        .i32_const(REPLY)
        .memory_size(0)
        .i64_extend_i32_u()
        .i64_store(at(40))
        .i64_const(etl_abi::pack(REPLY as u32, size as u32).cast_signed())
        .end();
    f
}

/// One argument: often small, so that it can be an address.
fn argument(f: &mut Function, ty: wasmparser::ValType, random: &mut Random) {
    let wide = random.next();
    let number = if wide.is_multiple_of(2) {
        (wide >> 1) % 70_000
    } else {
        wide
    };
    match ty {
        wasmparser::ValType::I32 => f.instruction(&I::I32Const(number as i32)),
        wasmparser::ValType::I64 => f.instruction(&I::I64Const(number.cast_signed())),
        wasmparser::ValType::F32 => f.instruction(&I::F32Const((number as f32 / 16.0).into())),
        wasmparser::ValType::F64 => f.instruction(&I::F64Const((number as f64 / 16.0).into())),
        wasmparser::ValType::V128 => f.instruction(&I::V128Const(
            (u128::from(number) << 64 | u128::from(random.next())).cast_signed(),
        )),
        wasmparser::ValType::Ref(ty) => f.instruction(&I::RefNull(if ty.is_func_ref() {
            HeapType::FUNC
        } else {
            HeapType::EXTERN
        })),
    };
}

/// Takes the result on top of the stack into the digest.
fn digest_result(f: &mut Function, ty: wasmparser::ValType) {
    match ty {
        wasmparser::ValType::I32 => {
            f.instructions().i64_extend_i32_u();
        }
        wasmparser::ValType::I64 => {}
        wasmparser::ValType::F32 => {
            f.instructions().i32_reinterpret_f32().i64_extend_i32_u();
        }
        wasmparser::ValType::F64 => {
            f.instructions().i64_reinterpret_f64();
        }
        wasmparser::ValType::V128 => {
            f.instructions().local_tee(LANES).i64x2_extract_lane(0);
            mix(f);
            f.instructions().local_get(LANES).i64x2_extract_lane(1);
        }
        wasmparser::ValType::Ref(_) => {
            f.instructions().ref_is_null().i64_extend_i32_u();
        }
    }
    mix(f);
}

/// Mixes the word on top of the stack into the digest.
fn mix(f: &mut Function) {
    f.instructions()
        .local_get(DIGEST)
        .i64_xor()
        .i64_const(0x9e37_79b9_7f4a_7c15_u64.cast_signed())
        .i64_mul()
        .i64_const(29)
        .i64_rotl()
        .local_set(DIGEST);
}
