"""The dictionary `trainer.deepspeed`: DeepSpeed ignores unknown top-level keys silently, so they are checked here."""

from r2gen.config.names import unknown_option
from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown

DATA_TYPES = ("communication_data_type", "seq_parallel_communication_data_type")
DICTIONARIES = ("zero_optimization", "comms_logger", "flops_profiler")
NUMBERS = ("steps_per_print", "gradient_predivide_factor")
SWITCHES = (
    "prescale_gradients",
    "sparse_gradients",
    "wall_clock_breakdown",
    "dump_state",
    "memory_breakdown",
    "zero_allow_untested_optimizer",
    "disable_allgather",
)
# Keys that R2Gen sets itself, and the options that they come from.
SET_BY = {
    "train_batch_size": "trainer.batch_size",
    "train_micro_batch_size_per_gpu": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.batch_size and trainer.micro_batch_size",
    "gradient_clipping": "trainer.gradient_clipping",
    "optimizer": "trainer.learning_rate and its neighbours",
    "scheduler": "trainer.schedule",
    "bf16": "trainer.precision",
    "fp16": "trainer.precision",
}


def check(node: Plain) -> None:
    """Raise UserError naming the key where it is unknown, set by R2Gen itself, or has a wrong value."""
    keys = (*DATA_TYPES, *DICTIONARIES, *NUMBERS, *SWITCHES)
    for key, value in node.items():
        name = f"trainer.deepspeed.{key}"
        if key in SET_BY:
            raise UserError(f"{name}: R2Gen sets this itself, from {SET_BY[key]}")
        if key in DATA_TYPES:
            fits, fix = value in (None, "fp32", "bf16", "fp16"), "choose one of fp32, bf16, fp16"
        elif key in DICTIONARIES:
            fits, fix = isinstance(value, dict), "give names with values, such as {enabled: true}"
        elif key in NUMBERS:
            fits, fix = isinstance(value, int | float) and value > 0, "give a number above 0"
        elif key in SWITCHES:
            fits, fix = isinstance(value, bool), "give true or false"
        else:
            raise UserError(unknown_option(name, keys))
        if not fits:
            raise UserError(f"{name}={shown(value)}: {fix}")
    zero = node.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") not in (0, 1, 2, 3) or isinstance(zero["stage"], bool):
        raise UserError(
            f"trainer.deepspeed.zero_optimization={shown(zero)}: give it a stage of 0 to 3, as in "
            "trainer.deepspeed.zero_optimization={stage: 2}, or use trainer=zero2"
        )
