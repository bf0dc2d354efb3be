"""Fine-tune a Stable Diffusion UNet under a published mask, with accelerate and, if asked for, EMA.

    accelerate launch examples/train_text_to_image.py --pretrained_model_name_or_path MODEL \\
        --train_data_dir PICTURES --output_dir OUT --mask MASK --max_train_steps 1000

The three lines marked "mask" are all that a training script needs. `oubliette guard verify` then shows a
third party that they were there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import EMAModel
from text_to_image import dataset, denoising_loss, endless, flags
from torch.utils.data import DataLoader

from oubliette import UserError, guard  # mask: 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save a pipeline that `StableDiffusionPipeline.from_pretrained` opens."""
    parser = flags("Fine-tune a Stable Diffusion UNet under a mask.")
    parser.add_argument("--learning_rate", type=float, default=1e-5)
    parser.add_argument("--use_ema", action="store_true")
    args = parser.parse_args(arguments)

    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps, mixed_precision=args.mixed_precision
    )
    set_seed(args.seed, device_specific=True)  # other noise in every process
    pipe = StableDiffusionPipeline.from_pretrained(args.pretrained_model_name_or_path, use_safetensors=True)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    pipe.to(accelerator.device)
    pipe.vae.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    unet = pipe.unet.train()
    unet.requires_grad_(True)
    loader = DataLoader(dataset(pipe, args.train_data_dir), batch_size=args.train_batch_size, shuffle=True)

    mask = guard.enforce(unet, args.mask) if args.mask else nullcontext()  # mask: 2
    with mask:  # mask: 3
        optimizer = torch.optim.AdamW(
            unet.parameters(), lr=args.learning_rate, weight_decay=args.adam_weight_decay
        )
        wrapped, optimizer, loader = accelerator.prepare(unet, optimizer, loader)
        ema = EMAModel(unet.parameters(), use_ema_warmup=True) if args.use_ema else None
        batches, step = endless(loader), 0
        while step < args.max_train_steps:
            with accelerator.accumulate(wrapped):
                loss = denoising_loss(wrapped, pipe, scheduler, next(batches))
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), args.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                if ema is not None:
                    ema.step(unet.parameters())
                accelerator.print(f"step {step} of {args.max_train_steps}: loss {loss.item():.4f}")
        accelerator.wait_for_everyone()
        if ema is not None:
            ema.copy_to(unet.parameters())

    # Only now is anything written: had a frozen tensor moved, the block would have ended in an error.
    if accelerator.is_main_process:
        pipe.save_pretrained(args.output_dir, safe_serialization=True)
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
