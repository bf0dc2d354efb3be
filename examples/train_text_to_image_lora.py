"""Train a LoRA of a Stable Diffusion UNet under a published mask: no adapter on a frozen tensor.

    accelerate launch examples/train_text_to_image_lora.py --pretrained_model_name_or_path MODEL \\
        --train_data_dir PICTURES --output_dir OUT --mask MASK --rank 4 --max_train_steps 1000

The lines marked "mask" are all that a training script needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from text_to_image import dataset, denoising_loss, endless, flags
from torch.utils.data import DataLoader

from oubliette import UserError, guard  # mask: 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save a `pytorch_lora_weights.safetensors` that `pipe.load_lora_weights` opens."""
    parser = flags("Train a LoRA under a mask.")
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--rank", type=int, default=4)
    args = parser.parse_args(arguments)

    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps, mixed_precision=args.mixed_precision
    )
    set_seed(args.seed, device_specific=True)  # other noise in every process
    pipe = StableDiffusionPipeline.from_pretrained(args.pretrained_model_name_or_path, use_safetensors=True)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    for part in (pipe.vae, pipe.text_encoder, pipe.unet):
        part.requires_grad_(False)
    unet = pipe.unet.train()
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    if args.mask:
        targets = guard.lora_targets(unet, args.mask, targets)  # mask: 2
    unet.add_adapter(
        LoraConfig(r=args.rank, lora_alpha=args.rank, init_lora_weights="gaussian", target_modules=targets)
    )
    pipe.to(accelerator.device)
    loader = DataLoader(dataset(pipe, args.train_data_dir), batch_size=args.train_batch_size, shuffle=True)

    with guard.enforce(unet, args.mask) if args.mask else nullcontext():  # mask: 3
        adapters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(adapters, lr=args.learning_rate, weight_decay=args.adam_weight_decay)
        wrapped, optimizer, loader = accelerator.prepare(unet, optimizer, loader)
        batches, step = endless(loader), 0
        while step < args.max_train_steps:
            with accelerator.accumulate(wrapped):
                loss = denoising_loss(wrapped, pipe, scheduler, next(batches))
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(adapters, args.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                accelerator.print(f"step {step} of {args.max_train_steps}: loss {loss.item():.4f}")
        accelerator.wait_for_everyone()

    if accelerator.is_main_process:
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
        StableDiffusionPipeline.save_lora_weights(
            args.output_dir, unet_lora_layers=layers, safe_serialization=True
        )
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
